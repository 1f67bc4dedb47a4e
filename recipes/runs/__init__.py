"""A run: its folder, its facts, and the classifier that it explains."""
