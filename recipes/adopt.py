"""Adopt a classifier that SpeechBrain published, so that interpreters run without training one first.

    python -m recipes.adopt hparams/focalnet.yaml FOLDER --data_folder=path/to/ESC-50 --weights=null

FOLDER holds `embedding_model.ckpt`, `classifier.ckpt` and `label_encoder.txt`, as in the hub's
`speechbrain/focalnet-base-esc50`, `vit-base-esc50` and `cnn14-esc50`. The bundle lands where `train.py` with the same
recipe would put it. SpeechBrain numbers classes by first appearance in its training folds; the head's rows are put
into the official order of the data set.
"""

import re
from pathlib import Path

import torch

from models.bundle import BundleInfo, save_bundle
from models.classifier import AudioClassifier
from models.errors import UsageError
from models.pretrained import load_speechbrain
from recipes.config import Recipe, entry, load_recipe
from recipes.esc50 import read_corpus
from recipes.report import commit
from recipes.training import run_folder

LABEL = re.compile(r"^'(.*)' => (\d+)$")


def read_label_encoder(path: Path) -> tuple[str, ...]:
    """Class names in the order of a SpeechBrain `label_encoder.txt`.

    Raises UsageError when the file is missing or its indices are not 0, 1, 2, ….
    """
    if not path.is_file():
        raise UsageError(f"no {path}: it says which of the classifier's outputs is which class")
    matches = map(LABEL.match, path.read_text(encoding="utf-8").splitlines())
    numbered = {int(found[2]): found[1] for found in matches if found and not found[1].startswith("starting_index")}
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        raise UsageError(f"{path} does not number its classes 0, 1, 2, …")
    return tuple(numbered[k] for k in range(len(numbered)))


def reorder_head(classifier: AudioClassifier, given: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Put the rows of a cosine head, now in the order `given`, into the order `wanted`.

    Raises UsageError when the two are not the same classes.
    """
    if sorted(given) != sorted(wanted):
        differing = sorted(set(given) ^ set(wanted))
        raise UsageError(f"the checkpoint's classes are not the data's; they differ in {', '.join(differing[:5])}")
    order = torch.tensor([given.index(name) for name in wanted])
    weight = classifier.head.classifier.weight
    with torch.no_grad():
        weight.copy_(weight[order])


def adopt(recipe: Recipe, folder: Path) -> Path:
    """Write the bundle of a published classifier into the recipe's run folder, and return its path."""
    given = read_label_encoder(folder / "label_encoder.txt")
    corpus = read_corpus(recipe.values["data_folder"], recipe.values["subset"])
    classifier = recipe.build()["model"]["classifier"]
    load_speechbrain(classifier, folder)
    reorder_head(classifier, given, corpus.class_names)
    source = {
        "experiment": recipe.values["experiment"],
        "seed": recipe.values["seed"],
        "commit": commit(),
        "data": {"name": corpus.name, "content": "unknown", "train_folds": recipe.values["train_folds"]},
        "classifier": {"recipe": recipe.path.stem, "weights": f"SpeechBrain checkpoint {folder.name}"},
        "training": {},
    }
    info = BundleInfo(
        "classifier",
        corpus.class_names,
        classifier.frontend.sample_rate,
        recipe.values["clip_seconds"],
        source,
    )
    bundle = save_bundle(run_folder(recipe.values) / "classifier", classifier, recipe.block("model"), info)
    print(f"bundle: {bundle}")
    return bundle


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    folders = [one for one in arguments[1:] if not one.startswith("-")]
    if len(folders) != 1:
        raise UsageError("usage: python -m recipes.adopt RECIPE.yaml FOLDER --data_folder=path/to/ESC-50")
    adopt(load_recipe([one for one in arguments if one != folders[0]]), Path(folders[0]))


if __name__ == "__main__":
    entry(main)
