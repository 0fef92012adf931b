"""What links carry: frames, fragments, and the interface between a link and the node."""
