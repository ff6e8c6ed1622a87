"""Sequence models of our own, for architectures that no library ships as a trained checkpoint."""
