"""Secure channels: an authenticated handshake, then messages only the two ends can read."""
