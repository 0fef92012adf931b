"""Relays: an address that two nodes can reach, from where messages go on to one of them."""
