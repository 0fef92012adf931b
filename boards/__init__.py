"""Boards of ockamlite: what it knows of the computers it runs on."""
