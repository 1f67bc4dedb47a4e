"""Train a sound classifier: python train.py hparams/focalnet.yaml --data_folder=path/to/ESC-50"""

from recipes.classification import train_classifier
from recipes.config.recipe import entry, load_recipe


def main(arguments: list[str]) -> None:
    recipe = load_recipe(arguments)
    recipe.build()  # what cannot be built is refused before the data is prepared
    train_classifier(recipe)


if __name__ == "__main__":
    entry(main)
