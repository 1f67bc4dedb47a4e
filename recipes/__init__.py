"""Recipes: data, Brains, checks and reports. The only package that knows files, folds, seeds and devices."""
