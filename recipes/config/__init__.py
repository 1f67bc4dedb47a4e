"""Recipes as files: what they say, and what they may say."""
