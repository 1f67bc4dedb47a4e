"""Factories of a recipe (`!name:`): whether they take the arguments that the recipe gives."""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from models.errors import UsageError

PLAIN_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Sequence[int]: "a list of whole numbers",
    Sequence[float]: "a list of numbers",
    type(None): "null",
}


def check_factories(built: object, path: Path) -> None:
    """Raises UsageError for an argument that a factory does not take, wherever in a recipe it stands.

    Arguments of plain types (numbers and lists of them, text, true or false) are held to the annotations of what takes
    them.
    """
    if isinstance(built, Mapping):
        for part in built.values():
            check_factories(part, path)
    elif isinstance(built, partial):
        name = f"{built.func.__module__}.{built.func.__qualname__}"
        try:
            signature = inspect.signature(built.func)
            signature.bind_partial(*built.args, **built.keywords)
        except TypeError as error:
            raise UsageError(f"{path}: {name} {error}; it takes {', '.join(signature.parameters)}") from error
        except ValueError:
            return  # it does not say what it takes
        problems = _wrong_types(built)
        if problems:
            raise UsageError(f"{path}: {name}: {'; '.join(problems)}")
        check_factories(built.keywords, path)


def _wrong_types(factory: partial) -> list[str]:
    """A sentence for every keyword whose value is of none of the plain types that its annotation allows."""
    function = factory.func.__init__ if inspect.isclass(factory.func) else factory.func
    try:
        annotations = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return []  # annotations of names that are only there for type checkers
    problems = []
    for key, value in factory.keywords.items():
        allowed = _alternatives(annotations.get(key))
        if allowed and allowed <= set(PLAIN_TYPES) and not _is_one_of(value, allowed):
            meant = " or ".join(words for kind, words in PLAIN_TYPES.items() if kind in allowed)
            problems.append(f"{key}={value!r} must be {meant}")
    return problems


def _alternatives(annotation: object) -> set:
    """The types of a union such as `int | None`, or the one type; none without an annotation."""
    if annotation is None:
        return set()
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation))
    return {annotation}


def _is_one_of(value: object, allowed: set) -> bool:
    """Whether a value is of an allowed type; a whole number is a number too, and true is neither."""
    if isinstance(value, list | tuple):
        return any(_lists(value, kind) for kind in allowed)
    kinds = {type(value)} | ({float} if type(value) is int else set())
    return bool(kinds & allowed)


def _lists(value: Sequence, kind: object) -> bool:
    """Whether all that is in a list may be there, by a type such as `Sequence[int]`."""
    return typing.get_origin(kind) is Sequence and all(_is_one_of(item, set(typing.get_args(kind))) for item in value)
