"""Addresses, routes, messages and the decision where a message goes next. No I/O."""
