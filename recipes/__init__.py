"""Recipes: data, Brains, checks and reports. The only package that knows files, folds, seeds and devices."""

import logging

# SpeechBrain warns at every import that it cannot save figures, which no recipe asks of it.
logging.getLogger("speechbrain.utils.train_logger").addFilter(lambda record: "torchvision" not in record.getMessage())
