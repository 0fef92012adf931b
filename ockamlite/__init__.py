"""ockamlite: end-to-end encrypted routes over any mix of links, in Ockam's wire format."""
