"""What a resolved recipe asks for, apart from how it is written: two texts of one meaning describe one run."""

import importlib
import inspect
from collections.abc import Mapping

from models.settings import SettingsGroup, is_group
from recipes.config.moved import with_current_names
from recipes.config.rules import BLOCKS, OBJECTS, READ_KEYS
from recipes.config.tagged import Tagged
from recipes.config.yaml_text import parse

ONLY_CHECKED = {"name:interpreters.maps.QuantileMap": {"map"}}
"""Arguments by which an object refuses a classifier, and which change nothing in what it computes."""

BEFORE_KEYS = {"model": {"loss": "additive_margin", "train_noise": "clean"}}
"""What recipes that hold a block meant before they had a key for it."""

PACKAGES = ("models.", "interpreters.", "recipes.")

BLOCK_OBJECTS = {"model": "classifier"}
"""The object that counts in a block, where it is not called as the block is."""


def meaning(text: str) -> dict[str, object]:
    """The values that commands read and the objects that are built, by top-level key.

    Comments, order, names that have moved since, how a block is cut into keys of its own, and which arguments of an
    object are grouped make no difference: a value that only an object is built from counts in that object.
    """
    values = parse(with_current_names(text), "the kept configuration")
    meant: dict[str, object] = {}
    for block, before in BEFORE_KEYS.items():
        if block in values:
            meant |= before
    for key, value in values.items():
        if key in BLOCKS and isinstance(value, Mapping):
            meant[key] = _normal(value.get(BLOCK_OBJECTS.get(key, key)))
        elif key in OBJECTS:
            meant[key] = _normal(value)
        elif key in READ_KEYS and key != "weights":
            meant[key] = value
    return meant


def meaning_of_bundle(text: str, kind: str) -> dict[str, object]:
    """The object that a bundle's `model.yaml` builds, under its kind, as `meaning` has that of a recipe's block."""
    document = parse(with_current_names(text), "the bundle's YAML")
    return {kind: _normal(document.get(BLOCK_OBJECTS.get(kind, kind)))}


def _normal(value: object) -> object:
    """A value in which an object is written in one way: with the defaults of what builds it."""
    if isinstance(value, Tagged):
        arguments = _normal(value.value) or {}
        if isinstance(arguments, dict):
            arguments = _defaults(_class_of(value)) | _ungrouped(arguments)
            for name in ONLY_CHECKED.get(value.tag, ()):
                arguments.pop(name, None)
        return Tagged(value.tag, arguments)
    if isinstance(value, Mapping):
        return {key: _normal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_normal(part) for part in value]
    return value


def _ungrouped(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments of an object, with the fields of its groups (`SettingsGroup`) in the place of the groups."""
    loose = {}
    for name, value in arguments.items():
        if isinstance(value, Tagged) and isinstance(value.value, Mapping) and is_group(_class_of(value)):
            loose |= value.value
        else:
            loose[name] = value
    return loose


def _class_of(value: Tagged) -> object:
    """The class or function of this project that a tag names; None for another one, and where there is none."""
    module, _, attribute = value.tag.partition(":")[2].rpartition(".")
    if not module.startswith(PACKAGES):
        return None
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return None


def _defaults(builder: object) -> dict[str, object]:
    """The default values of a class or function, as YAML has them: lists in place of tuples, groups taken apart.

    An argument that has been added since a text was kept makes no difference where it is the default.
    """
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        return {}
    defaults: dict[str, object] = {}
    for parameter in parameters.values():
        default = parameter.default
        if isinstance(default, SettingsGroup):
            for name, value in vars(default).items():
                defaults[name] = list(value) if isinstance(value, tuple) else value
        elif default is not inspect.Parameter.empty:
            defaults[parameter.name] = list(default) if isinstance(default, tuple) else default
    return defaults
