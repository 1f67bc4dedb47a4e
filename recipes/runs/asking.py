"""A classifier and a method by whatever name Python gives them: bundles, modules, hub names, recipes, runs."""

import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml
from torch import nn

from interpreters.base import Interpreter
from models.bundle import Bundle, BundleInfo, read_facts
from models.errors import UsageError
from recipes.config.compose import find_recipe
from recipes.config.factories import check_factories
from recipes.config.moved import current_file
from recipes.config.options import nearest
from recipes.config.recipe import load_recipe
from recipes.runs.places import is_bundle
from recipes.runs.required import require_one_quantile
from recipes.runs.subject import Subject, load_interpreter, load_subject

RECIPES = Path(__file__).parents[2] / "hparams"
PUBLISHED_SECONDS = 10.0
"""Clip length of a classifier of the Hugging Face hub, whose card does not say it: that of AudioSet."""

FRAMES_PER_SECOND = 100
"""Of the filter banks that transformers on spectrograms hear."""


def open_classifier(
    classifier: str | Path | nn.Module,
    labels: Sequence[str] | None = None,
    clip_seconds: float | None = None,
    trust: Collection[str] = (),
) -> Subject:
    """A classifier, frozen and in evaluation mode.

    classifier: the folder of a bundle, or of a run that holds one; the hub name of an audio classifier of transformers,
    or its folder; or a module that `models.conformance` accepts, which is frozen in place. labels: a module's class
    names; None: its `class_names`, or numbers. clip_seconds: a module's clip length; None: `PUBLISHED_SECONDS` for one
    of the hub, and a whole sound at once otherwise. trust: modules of your own that a bundle may build.

    Raises UsageError where nothing of this is there.
    """
    if isinstance(classifier, nn.Module):
        return module_subject(classifier, labels, clip_seconds)
    folder = Path(classifier)
    for bundle in (folder, folder / "classifier"):
        if is_bundle(bundle):
            return load_subject(bundle, "cpu", trust)
    if (folder / "config.json").is_file() or re.fullmatch(r"[\w.-]+/[\w.-]+", str(classifier)):
        return _published(str(classifier), clip_seconds)
    raise UsageError(
        f"classifier={str(classifier)!r} is no bundle, no run's folder, and no hub name of the form someone/name: "
        "train one with `python train.py hparams/focalnet.yaml`, or give the folder of one"
    )


def module_subject(module: nn.Module, labels: Sequence[str] | None, clip_seconds: float | None) -> Subject:
    """A module as it is, frozen. Raises UsageError where it is no classifier, or has another number of classes."""
    lacking = [name for name in ("frontend", "describe", "freeze") if not hasattr(module, name)]
    if lacking:
        raise UsageError(
            f"{type(module).__name__} lacks {', '.join(lacking)}: give a classifier that "
            "`python -m recipes.conformance` accepts, such as models.classifier.AudioClassifier"
        )
    module.freeze()
    offers = module.describe()
    names = labels or getattr(module, "class_names", None) or [f"class {k}" for k in range(offers.num_classes)]
    if len(names) != offers.num_classes:
        raise UsageError(f"labels has {len(names)} names, and the classifier {offers.num_classes} classes")
    seconds = float("inf") if clip_seconds is None else clip_seconds
    info = BundleInfo("classifier", tuple(names), offers.sample_rate, seconds)
    return Subject(Bundle(module, info, Path(type(module).__name__)), offers)


@contextmanager
def as_it_was(module: nn.Module | None) -> Iterator[None]:
    """Afterwards, the module is in training mode and has gradients where it was and had them before."""
    modules = [] if module is None else list(module.modules())
    parameters = [] if module is None else list(module.parameters())
    training = [part.training for part in modules]
    learning = [parameter.requires_grad for parameter in parameters]
    try:
        yield
    finally:
        for part, mode in zip(modules, training, strict=True):
            part.training = mode
        for parameter, learns in zip(parameters, learning, strict=True):
            parameter.requires_grad_(learns)


def _published(weights: str, clip_seconds: float | None) -> Subject:
    """An audio classifier of transformers, with its own head and classes."""
    from models.frontend import FrontEnd
    from models.huggingface import HuggingFaceClassifier

    network = HuggingFaceClassifier(FrontEnd(), weights)
    if clip_seconds is None:
        longest = getattr(network.adapter, "max_frames", math.inf) / FRAMES_PER_SECOND
        clip_seconds = min(PUBLISHED_SECONDS, longest)
    return module_subject(network, None, clip_seconds)


def build_method(method: str | Path, subject: Subject, settings: Mapping[str, object], trust: Collection[str] = ()):
    """An interpreter of a classifier, ready to explain.

    method: the name of a recipe of hparams/, such as "grad_cam", the path of one, or the folder of a run, whose trained
    interpreter is taken. settings: keys of the recipe, as on the command line.

    Raises UsageError for a method or a setting that is not there, one that does not fit the classifier, and for the
    name of one that is trained.
    """
    folder = Path(method)
    if is_bundle(folder / "interpreter"):
        if settings:
            raise UsageError(f"{', '.join(settings)} cannot be changed: {folder} holds a method with its settings")
        return load_interpreter(folder, subject, "python interpret.py hparams/RECIPE.yaml", trust).network
    path = folder if folder.suffix == ".yaml" else _recipe_named(str(method))
    recipe = load_recipe([str(find_recipe(path)), *_as_options(settings)], command="interpret.py")
    require_one_quantile(recipe.values)
    if recipe.values.get("reference") is not None:
        raise UsageError(f"{method} matches another run: run `python interpret.py {path}`, and pass its folder")
    factory = load_hyperpyyaml(io.StringIO(recipe.block("interpreter")))["interpreter"]
    check_factories(factory, path)
    interpreter: Interpreter = factory(info=subject.offers)
    if interpreter.trainable:
        raise UsageError(
            f"{method} is trained on a classifier's data: run `python interpret.py {path}`, and pass the run's folder, "
            f"such as method='results/{path.stem}/1234'"
        )
    return interpreter


def _recipe_named(method: str) -> Path:
    """The recipe of a method, with a short path where it is below the working folder.

    Raises UsageError where there is none, naming the nearest.
    """
    names = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    path = current_file(RECIPES / f"{method}.yaml")
    if path.stem not in names:
        near = nearest(method, names)
        hint = f"did you mean {near!r}?" if near else "`python interpret.py --list` names them"
        raise UsageError(f"method={method!r} is no recipe of hparams, nor a run with a trained interpreter; {hint}")
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def method_name(method: str | Path) -> str:
    """How people call a method: its recipe, or the experiment of the run that left it."""
    bundle = Path(method) / "interpreter"
    if is_bundle(bundle):
        return read_facts(bundle, "interpreter").source.get("experiment", Path(method).name)
    return Path(method).stem


def _as_options(settings: Mapping[str, object]) -> list[str]:
    return [f"--{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in settings.items()]
