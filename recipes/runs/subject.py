"""The classifier under explanation, and the interpreter trained for it, from their bundles.

A run's folder holds both bundles, `classifier/` and `interpreter/`, and these two explain sounds wherever they are
copied to.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from interpreters.base import Interpreter
from models.bundle import STAGED, Bundle, BundleInfo, load_bundle, read_facts
from models.classifier import AudioClassifier, ClassifierInfo
from models.errors import UsageError
from recipes.runs.places import is_bundle, run_of_fold
from recipes.runs.required import require_classifier, require_reference, require_start
from recipes.system.files import unwritable

if TYPE_CHECKING:
    from recipes.config.recipe import Recipe, Settings


@dataclass(frozen=True)
class Subject:
    """A frozen classifier, what its bundle says, and what it offers to interpreters."""

    bundle: Bundle
    offers: ClassifierInfo

    @property
    def classifier(self) -> AudioClassifier:
        return self.bundle.network

    @property
    def info(self) -> BundleInfo:
        return self.bundle.info

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: an interpreter belongs to exactly one classifier."""
        return self.info.sha256["weights.safetensors"]


def find_classifier(path: str | Path) -> BundleInfo:
    """The facts of a classifier bundle. Raises UsageError that says which command makes a missing one."""
    require_classifier(Path(path))
    return read_facts(path, "classifier")


def load_subject(path: str | Path, device: str, trust: Collection[str] = ()) -> Subject:
    """Load a classifier bundle, frozen, on a device. Raises UsageError as `find_classifier` and `load_bundle`."""
    find_classifier(path)
    bundle = load_bundle(path, "classifier", trust)
    bundle.network.freeze().to(device)
    return Subject(bundle, bundle.network.describe())


def load_interpreter(folder: Path, subject: Subject, command: str, trust: Collection[str] = ()) -> Bundle:
    """The interpreter that a run left. command: what trains it, for the error sentence.

    Raises UsageError when there is none, or when it was trained for another classifier.
    """
    path = folder / "interpreter"
    if not is_bundle(folder / "interpreter"):
        raise UsageError(f"no trained interpreter at {path}: train it with `{command}`")
    if read_facts(path, "interpreter").source["classifier_weights_sha256"] != subject.fingerprint:
        raise UsageError(f"{path} was trained for another classifier than {subject.bundle.path}: use that, or retrain")
    bundle = load_bundle(path, "interpreter", trust, info=subject.offers)
    bundle.network.requires_grad_(False)
    return bundle


def untrained_or_loaded(
    recipe_interpreter, folder: Path, subject: Subject, command: str, trust: Collection[str] = ()
) -> Interpreter:
    """An interpreter ready to explain: as built where nothing is trained, else from the run's bundle."""
    interpreter = recipe_interpreter(info=subject.offers)
    return load_interpreter(folder, subject, command, trust).network if interpreter.trainable else interpreter


def find_reference(values: Mapping, folder: Path) -> Path | None:
    """The run whose interpreter the recipe's control matches, of the same fold as `folder`; None where it names none.

    Raises UsageError that says which command makes a missing one.
    """
    require_reference(values, folder)
    return run_of_fold(values, "reference", folder)


def find_start(values: Mapping, folder: Path) -> Path | None:
    """The run that training starts from, of the same fold as `folder`; None for a fresh start.

    Raises UsageError where it holds no trained interpreter.
    """
    require_start(values, folder)
    return run_of_fold(values, "start_from", folder)


def interpreter_factory(
    recipe: "Recipe", objects: "Settings", subject: Subject, folder: Path
) -> Callable[..., Interpreter]:
    """What builds the recipe's interpreter from `info`, with the reference of a control already in place.

    objects: what the recipe built. Raises UsageError as `find_reference` and `load_interpreter`.
    """
    factory, run = objects["interpreter"]["interpreter"], find_reference(recipe.values, folder)
    if run is None:
        return factory
    return partial(factory, reference=load_interpreter(run, subject, str(recipe.path), recipe.trust).network)


def interpreter_block(recipe: "Recipe", folder: Path) -> str:
    """The recipe's interpreter as the document for its bundle; that of a control holds its reference's."""
    run = find_reference(recipe.values, folder)
    if run is None:
        return recipe.block("interpreter")
    document = YAML().load((run / "interpreter" / "model.yaml").read_text(encoding="utf-8"))
    return recipe.block("interpreter", {"reference": document["interpreter"]})


def keep_classifier(folder: Path, subject: Subject) -> None:
    """Leave the classifier's bundle in the folder of a run that explains it: hard links where the disk allows it.

    Raises UsageError when the disk is full.
    """
    kept = folder / "classifier"
    if kept.resolve() == subject.bundle.path.resolve():
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=STAGED) as temporary:
        shutil.copytree(subject.bundle.path, Path(temporary) / "new", copy_function=_link)
        shutil.rmtree(kept, ignore_errors=True)
        (Path(temporary) / "new").replace(kept)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copy2(source, target)
        except OSError as error:
            raise unwritable(target, error) from error  # shutil would gather it, with one for every other file
