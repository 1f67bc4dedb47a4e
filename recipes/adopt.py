"""Adopt a published classifier, so that interpreters run without training one first.

    python -m recipes.adopt hparams/focalnet.yaml FOLDER --data_folder=path/to/ESC-50 --weights=null

FOLDER holds `embedding_model.ckpt`, `classifier.ckpt` and `label_encoder.txt`, as in the hub's
`speechbrain/focalnet-base-esc50`, `vit-base-esc50` and `cnn14-esc50`. The bundle lands where `train.py` with the same
recipe would put it. SpeechBrain numbers classes by first appearance in its training folds; the head's rows are put
into the official order of the data set.

    python -m recipes.adopt MIT/ast-finetuned-audioset-10-10-0.4593 results/ast_audioset/1234 --clip_seconds=10

adopts an audio classifier of the Hugging Face hub, or a local folder in its layout, with its own head and classes.
"""

import re
import textwrap
from pathlib import Path

import torch
import yaml

from models.bundle import BundleInfo, save_bundle
from models.classifier import AudioClassifier
from models.errors import UsageError
from models.frontend import FrontEnd
from models.huggingface import HuggingFaceClassifier
from models.pretrained import load_speechbrain
from recipes.config.recipe import Recipe, entry, load_recipe
from recipes.data.metadata import read_corpus
from recipes.runs.facts import commit
from recipes.runs.places import run_folder

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
    data = {"name": corpus.name, "content": "unknown", "train_folds": recipe.values["train_folds"]}
    weights = f"SpeechBrain checkpoint {folder.name}"
    facts = _source(recipe.values["experiment"], recipe.values["seed"], data, recipe.path.stem, weights)
    info = BundleInfo(
        "classifier", corpus.class_names, classifier.frontend.sample_rate, recipe.values["clip_seconds"], facts
    )
    return _save(run_folder(recipe.values), classifier, recipe.block("model"), info)


def adopt_published(weights: str, run: Path, clip_seconds: float) -> Path:
    """Write the bundle of a Hugging Face audio classifier, its own head and classes kept, and return its path.

    Raises UsageError as `HuggingFaceClassifier`.
    """
    classifier = HuggingFaceClassifier(FrontEnd(), weights)
    settings = textwrap.indent(yaml.safe_dump(classifier.describe().settings), "  ")
    model_yaml = (
        "frontend: &frontend !new:models.frontend.FrontEnd\n"
        f"classifier: !new:models.huggingface.HuggingFaceClassifier\n  frontend: *frontend\n{settings}"
    )
    facts = _source(run.name, None, {"name": "unknown", "content": "unknown", "train_folds": []}, "published", weights)
    info = BundleInfo("classifier", classifier.class_names, classifier.frontend.sample_rate, clip_seconds, facts)
    return _save(run, classifier, model_yaml, info)


def _source(experiment: str, seed: int | None, data: dict, recipe: str, weights: str) -> dict:
    about = {"recipe": recipe, "weights": weights}
    facts = {"experiment": experiment, "seed": seed, "commit": commit()}
    return facts | {"data": data, "classifier": about, "training": {}}


def _save(run: Path, classifier: AudioClassifier, model_yaml: str, info: BundleInfo) -> Path:
    bundle = save_bundle(run / "classifier", classifier, model_yaml, info)
    print(f"bundle: {bundle}")
    return bundle


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    places = [one for one in arguments if not one.startswith("-")]
    options = [one for one in arguments if one.startswith("-")]
    if len(places) != 2:
        raise UsageError("usage: python -m recipes.adopt RECIPE.yaml FOLDER, or NAME RUN_FOLDER [--clip_seconds=10]")
    if places[0].endswith(".yaml"):
        adopt(load_recipe([places[0], *options]), Path(places[1]))
        return
    given = re.fullmatch(r"--clip_seconds=(\d+\.?\d*)", options[0] if options else "--clip_seconds=10")
    if given is None or len(options) > 1 or not float(given[1]):
        raise UsageError(f"{' '.join(options)!r} is not of the form --clip_seconds=10")
    adopt_published(places[0], Path(places[1]), float(given[1]))


if __name__ == "__main__":
    entry(main)
