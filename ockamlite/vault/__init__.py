"""Keys behind handles, and the only place where cryptography is imported."""
