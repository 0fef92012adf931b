"""Links of ockamlite: what carries its messages between nodes."""
