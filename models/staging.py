"""The mark of what is still being written, for whoever cleans up after a process that was killed."""

STAGED = ".staged-"
"""Begins the name of a file or folder that is not whole yet."""
