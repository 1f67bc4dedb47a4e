"""Interpreters: what a classifier listened to, as masks and as sound, and the scores of such answers."""
