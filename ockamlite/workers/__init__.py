"""Workers: code with an address, a mailbox and one message at a time."""
