"""Adopt a published classifier, so that interpreters run without training one first.

    python -m recipes.adopt hparams/focalnet.yaml FOLDER --data_folder=path/to/ESC-50 --weights=null

FOLDER holds `embedding_model.ckpt`, `classifier.ckpt` and `label_encoder.txt`, as in the hub's
`speechbrain/focalnet-base-esc50`, `vit-base-esc50`, `PIQ-ESC50` (with `hparams/conv2d.yaml --weights=null`) and
`cnn14-esc50` (with `hparams/cnn14.yaml --head_blocks=1`). The CNN14 that the L-MAC recipes explain, `fpaissan/r`, wants
`hparams/paper/cnn14.yaml --weights=null`. The bundle lands where `train.py` with the same recipe would put it.
SpeechBrain numbers classes by first appearance in its training folds; the head's rows are put into the official order
of the data set.

    python -m recipes.adopt MIT/ast-finetuned-audioset-10-10-0.4593 results/ast_audioset/1234 --clip_seconds=10

adopts an audio classifier of the Hugging Face hub, or a local folder in its layout, with its own head and classes.

    python -m recipes.adopt laion/clap-htsat-unfused results/my_prompts/1234 --prompts='[a dog barks, rain on a roof]'

makes a classifier of sentences of your own from a CLAP, without any data.

    python -m recipes.adopt hparams/paper/lmac.yaml FOLDER --data_folder=path/to/ESC-50

adopts a released interpreter for the recipe's classifier, which comes first. FOLDER holds `psi_model.ckpt` for L-MAC
(with `PaperDecoder`) and PIQ, `encoder.ckpt`, `decoder.ckpt`, `masknet.ckpt` and `convt_decoder.ckpt` for LMAC-TD (with
`PaperMapDecoder`), and `psi_model.ckpt`, `theta.ckpt` and `nmf_decoder.ckpt` for L2I (`hparams/paper/l2i.yaml`). PIQ's
codes and the rows of L2I's theta belong to classes: `label_encoder.txt`, that of the classifier that the release
explains, says which class is which.
"""

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import nn

from models.bundle import BundleInfo, build_trusted, read_facts, save_bundle
from models.clap import ClapClassifier
from models.classifier import AudioClassifier
from models.errors import UsageError
from models.frontend import FrontEnd
from models.huggingface import HuggingFaceClassifier
from models.pretrained import head_module, load_parts, load_speechbrain
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.cache import HashMemo
from recipes.data.clips import short_hash
from recipes.data.corpus import Corpus, indices
from recipes.data.metadata import read_corpus
from recipes.runs.facts import commit
from recipes.runs.leaks import clip_hashes
from recipes.runs.places import is_bundle, run_folder
from recipes.runs.subject import keep_classifier, load_subject
from recipes.system.entry import entry
from recipes.system.files import exclusive_lock

DEFAULT_SECONDS = 10.0
CLAP_FRONT_END = {"sample_rate": 48000, "n_fft": 2048}
LABEL = re.compile(r"^'(.*)' => (\d+)$")


def read_label_encoder(path: Path) -> tuple[str, ...]:
    """Class names in the order of a SpeechBrain `label_encoder.txt`.

    Raises UsageError when the file is missing or its indices are not 0, 1, 2, ….
    """
    if not path.is_file():
        raise UsageError(f"no {path}: it says which of the classifier's outputs is which class")
    names: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LABEL.match(line)
        if match and not match[1].startswith("starting_index"):
            names[int(match[2])] = match[1]
    if not names or sorted(names) != list(range(len(names))):
        raise UsageError(f"{path} does not number its classes 0, 1, 2, …")
    return tuple(names[k] for k in range(len(names)))


def order_of(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """For each wanted class its place among the names. Raises UsageError when the two are not the same classes."""
    if sorted(names) != sorted(wanted):
        differing = sorted(set(names) ^ set(wanted))
        raise UsageError(f"the checkpoint's classes are not the data's; they differ in {', '.join(differing[:5])}")
    return [names.index(name) for name in wanted]


def reorder_head(classifier: AudioClassifier, published: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Put the rows of a head, now in the order `published`, into the order `wanted`.

    Raises UsageError when the two are not the same classes.
    """
    _reorder_rows(head_module(classifier), order_of(published, wanted))


def _reorder_rows(layer: nn.Module, order: Sequence[int]) -> None:
    """Make row order[k] of a layer's weight, and of its bias where it has one, row k."""
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            parameter.copy_(parameter[torch.tensor(order)])


def adopt(recipe: Recipe, folder: Path) -> Path:
    """Write the bundle of a published classifier into the recipe's run folder, and return its path.

    The classifier counts as trained on the recipe's train_folds and chosen on its valid_folds. Raises UsageError where
    the run's folder holds another classifier.
    """
    values, run = recipe.values, run_folder(recipe.values)
    published = read_label_encoder(folder / "label_encoder.txt")
    corpus = read_corpus(values["data_folder"], values["subset"], values.get("columns") or {})
    classifier = recipe.build()["model"]["classifier"]
    load_speechbrain(classifier, folder)
    reorder_head(classifier, published, corpus.class_names)
    data = _published_data(corpus, values)
    about = {"recipe": recipe.path.stem, "weights": f"SpeechBrain checkpoint {folder.name}"}
    source = _source(values["experiment"], values["seed"], data, about)
    source["clips"] = _seen(recipe, corpus)
    info = BundleInfo("classifier", corpus.class_names, classifier.frontend.sample_rate, values["clip_seconds"], source)
    return _save(run, classifier, recipe.block("model"), info)


def _seen(recipe: Recipe, corpus: Corpus) -> dict:
    """Hashes of the clips that the classifier has seen by the recipe's folds, for the guard against testing on them."""
    values = recipe.values
    cache = Path(values["cache_folder"])
    with exclusive_lock(cache / ".lock"):
        digests = HashMemo(cache / "hashes.json").digests([clip.path for clip in corpus.clips], os.cpu_count() or 1)
    seen = {}
    for part in ("train", "valid"):
        clips = indices(corpus, values[f"{part}_folds"])
        seen[part] = clip_hashes(corpus, clips, lambda i: short_hash(digests[i]))
    return seen


def adopt_interpreter(recipe: Recipe, folder: Path) -> Path:
    """Write the bundle of a released interpreter into the recipe's run folder, and return its path.

    It counts as trained on the recipe's train_folds and chosen on its valid_folds, as the classifier's own release.
    Raises UsageError where the recipe builds no network that was released, where a file does not fit it, where the
    recipe shares PIQ's codes out otherwise than releases do, and where the run's folder holds an interpreter already.
    """
    values, run = recipe.values, run_folder(recipe.values)
    if is_bundle(run / "interpreter"):
        raise UsageError(f"{run} holds an interpreter already: choose another run folder, by --experiment or --seed")
    subject = load_subject(values["classifier"], "cpu", recipe.trust)
    settings = {}
    if "class_order" in values:
        if values["owners"] != "published":
            raise UsageError(
                f"codes of a release are owned otherwise than owners={values['owners']} says: pass "
                "--interpreter.owners=published"
            )
        published = read_label_encoder(folder / "label_encoder.txt")
        settings["class_order"] = order_of(subject.info.class_names, published)
    text = recipe.block("interpreter", settings)
    interpreter = build_trusted(text, recipe.path, recipe.trust)["interpreter"](info=subject.offers)
    parts = interpreter.published_parts()
    if not parts:
        raise UsageError(
            f"{recipe.path} builds no network that was released for this classifier: {type(interpreter).__name__} "
            "needs the networks of its paper, as hparams/paper sets them, and maps of the published channels"
        )
    class_layers = interpreter.class_layers()
    order: list[int] = []
    if class_layers:
        order = order_of(read_label_encoder(folder / "label_encoder.txt"), subject.info.class_names)
    load_parts(parts, folder)
    for layer in class_layers:
        _reorder_rows(layer, order)
    corpus = read_corpus(values["data_folder"], values["subset"], values.get("columns") or {})
    data, classifier = _published_data(corpus, values), subject.info.source["classifier"]
    source = _source(values["experiment"], values["seed"], data, classifier) | {
        "training": {"weights": f"released checkpoint {folder.name}"},
        "classifier_weights_sha256": subject.fingerprint,
        "clips": _seen(recipe, corpus),
    }
    info = replace(subject.info, kind="interpreter", source=source, sha256={})
    bundle = save_bundle(run / "interpreter", interpreter, text, info)
    keep_classifier(run, subject)
    print(f"bundle: {bundle}\nnext: python interpret.py {recipe.path} --test_only")
    return bundle


def _published_data(corpus: Corpus, values: Mapping) -> dict:
    """What is known of the data that a release was trained on."""
    folds = {"train_folds": values["train_folds"], "valid_folds": values["valid_folds"]}
    return {"name": corpus.name, "content": "unknown"} | folds


def adopt_published(weights: str, run: Path, clip_seconds: float) -> Path:
    """Write the bundle of a Hugging Face audio classifier, its own head and classes kept, and return its path.

    Raises UsageError as `HuggingFaceClassifier`, and where the run's folder holds another classifier.
    """
    classifier = HuggingFaceClassifier(FrontEnd(), weights)
    return _adopt_whole(classifier, "!new:models.frontend.FrontEnd", weights, run, clip_seconds)


def adopt_prompts(weights: str, run: Path, clip_seconds: float, prompts: Sequence[str]) -> Path:
    """Write the bundle of a CLAP whose classes are these sentences, and return its path.

    Raises UsageError as `ClapClassifier`, and where the run's folder holds another classifier.
    """
    classifier = ClapClassifier(FrontEnd(**CLAP_FRONT_END), weights, prompts)
    frontend = f"!new:models.frontend.FrontEnd {CLAP_FRONT_END}"
    return _adopt_whole(classifier, frontend, weights, run, clip_seconds)


def _adopt_whole(
    classifier: HuggingFaceClassifier | ClapClassifier, frontend: str, weights: str, run: Path, clip_seconds: float
) -> Path:
    """Write the bundle of a classifier that knows its classes. frontend: its front end as YAML."""
    settings = textwrap.indent(yaml.safe_dump(classifier.describe().settings), "  ")
    kind = type(classifier)
    model_yaml = (
        f"frontend: &frontend {frontend}\n"
        f"classifier: !new:{kind.__module__}.{kind.__name__}\n  frontend: *frontend\n{settings}"
    )
    data = {"name": "unknown", "content": "unknown", "train_folds": [], "valid_folds": []}
    source = _source(run.name, None, data, {"recipe": "published", "weights": weights})
    names = classifier.class_names or ()
    info = BundleInfo("classifier", names, classifier.frontend.sample_rate, clip_seconds, source)
    return _save(run, classifier, model_yaml, info)


def _source(experiment: str, seed: int | None, data: dict, classifier: dict) -> dict:
    """Where a bundle came from. classifier: the recipe of the classifier, and its weights."""
    return {
        "experiment": experiment,
        "seed": seed,
        "commit": commit(),
        "data": data,
        "classifier": classifier,
        "training": {},
    }


def _save(run: Path, classifier: AudioClassifier, model_yaml: str, info: BundleInfo) -> Path:
    folder = run / "classifier"
    if is_bundle(folder):
        kept = read_facts(folder, "classifier").source["classifier"]["weights"]
        if kept != info.source["classifier"]["weights"]:
            raise UsageError(
                f"{folder} holds another classifier already (weights: {kept}): choose another run folder, by "
                "--experiment or --seed of a recipe, or remove that one"
            )
    bundle = save_bundle(folder, classifier, model_yaml, info)
    print(f"bundle: {bundle}")
    return bundle


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    if not arguments or {"--help", "-h"}.intersection(arguments):
        print(__doc__)
        return
    places = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    if len(places) != 2:
        raise UsageError(
            "usage: python -m recipes.adopt RECIPE.yaml FOLDER, or NAME RUN_FOLDER [--clip_seconds=10] [--prompts=[…]]"
        )
    if places[0].endswith(".yaml"):
        recipe = load_recipe([places[0], *options])
        make_bundle = adopt_interpreter if "classifier" in recipe.values else adopt
        make_bundle(recipe, Path(places[1]))
        return
    seconds, prompts = DEFAULT_SECONDS, None
    for option in options:
        if option.startswith("--prompts="):
            prompts = _prompts(option)
        else:
            seconds = _seconds(option)
    if prompts is None:
        adopt_published(places[0], Path(places[1]), seconds)
    else:
        adopt_prompts(places[0], Path(places[1]), seconds, prompts)


def _seconds(option: str) -> float:
    match = re.fullmatch(r"--clip_seconds=(\d+\.?\d*)", option)
    if match is None or not float(match[1]):
        raise UsageError(f"{option!r} is not of the form --clip_seconds=10")
    return float(match[1])


def _prompts(option: str) -> list[str]:
    """The sentences of an option; what they must be is judged by the classifier."""
    try:
        prompts = yaml.safe_load(option.partition("=")[2])
    except yaml.YAMLError:
        prompts = None
    if not isinstance(prompts, list) or len(prompts) < 2:
        raise UsageError(f"{option!r} is not of the form --prompts='[a dog barks, rain on a roof]', two or more")
    return prompts


if __name__ == "__main__":
    entry(main)
