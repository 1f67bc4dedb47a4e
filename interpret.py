"""Explain a sound classifier: python interpret.py hparams/modulation.yaml"""

from recipes.config.catalog import answer
from recipes.config.recipe import load_recipe
from recipes.runs.required import REQUIRED
from recipes.system.entry import entry


def main(arguments: list[str]) -> None:
    told = answer(arguments, "interpret.py")
    if told is not None:
        print(told, end="")
        return
    recipe = load_recipe(arguments, REQUIRED, command="interpret.py")
    # imported only now: torch and SpeechBrain take seconds, and a mistake above is told at once
    from recipes.interpretation import run_interpreter

    run_interpreter(recipe)


if __name__ == "__main__":
    entry(main)
