"""Who a node is and whom it has met: identities, purpose keys, credentials, and where they are kept."""
