"""Sounds and their labels: reading, decoding, mixing, augmenting."""
