"""Portals: a TCP connection at one node continued at another."""
