"""Train a sound classifier: python train.py hparams/focalnet.yaml --data_folder=path/to/ESC-50"""

from recipes.classification import train_classifier
from recipes.config import entry, load_recipe

if __name__ == "__main__":
    entry(lambda arguments: train_classifier(load_recipe(arguments)))
