"""Explain a sound classifier: python interpret.py hparams/modulation.yaml --data_folder=path/to/ESC-50"""

from recipes.config.recipe import load_recipe
from recipes.runs.required import REQUIRED
from recipes.system.entry import entry


def main(arguments: list[str]) -> None:
    recipe = load_recipe(arguments, REQUIRED, command="interpret.py")
    # imported only now: torch and SpeechBrain take seconds, and a mistake above is told at once
    from recipes.interpretation import run_interpreter

    run_interpreter(recipe)


if __name__ == "__main__":
    entry(main)
