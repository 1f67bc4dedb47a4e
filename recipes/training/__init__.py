"""Brains, schedules and checkpoints."""
