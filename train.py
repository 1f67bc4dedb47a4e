"""Train a sound classifier: python train.py hparams/focalnet.yaml"""

from recipes.config.catalog import answer
from recipes.config.recipe import load_recipe
from recipes.runs.required import REQUIRED_TO_TRAIN
from recipes.system.entry import entry, without_collection


def main(arguments: list[str]) -> None:
    listing = answer(arguments, "train.py")
    if listing is not None:
        print(listing, end="")
        return
    recipe = load_recipe(arguments, REQUIRED_TO_TRAIN, command="train.py")
    # imported only now: torch and SpeechBrain take seconds, and a mistake above is told at once
    with without_collection():
        from recipes.classification import train_classifier

    train_classifier(recipe)


if __name__ == "__main__":
    entry(main)
