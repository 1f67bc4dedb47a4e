"""Explain a sound classifier: python interpret.py hparams/modulation.yaml

Several recipes run one after the other: python interpret.py hparams/grad_cam.yaml hparams/lmac.yaml --audio=siren.wav
"""

from recipes.config.catalog import answer
from recipes.config.recipe import each_recipe, load_recipe
from recipes.runs.required import REQUIRED
from recipes.system.entry import entry, without_collection


def main(arguments: list[str]) -> None:
    listing = answer(arguments, "interpret.py")
    if listing is not None:
        print(listing, end="")
        return
    recipes = [load_recipe(line, REQUIRED, command="interpret.py") for line in each_recipe(arguments)]
    # imported only now: torch and SpeechBrain take seconds, and a mistake above is told at once
    with without_collection():
        from recipes.interpretation import explain_audio, run_interpreter

    if recipes[0].values["audio"] is not None:
        explain_audio(recipes)
        return
    for recipe in recipes:
        run_interpreter(recipe)


if __name__ == "__main__":
    entry(main)
