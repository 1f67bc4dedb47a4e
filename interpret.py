"""Explain a sound classifier: python interpret.py hparams/modulation.yaml --data_folder=path/to/ESC-50"""

from recipes.config.recipe import entry, load_recipe
from recipes.interpretation import FILE_CHECKS, run_interpreter

if __name__ == "__main__":
    entry(lambda arguments: run_interpreter(load_recipe(arguments, FILE_CHECKS)))
