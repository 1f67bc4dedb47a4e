"""Arguments that belong together, as one object: its types and ranges are checked where it is made.

A recipe builds one by `!new:`, from keys that are called as its fields are, and a bundle may build it too.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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


class SettingsGroup:
    """Base of a frozen dataclass that holds some of the arguments of a torch module.

    A subclass says in `check` which values it refuses. Of one class, no two groups have a field of the same name.

    Raises UsageError for a plain value (a number or a list of them, text, true or false) of another type than its
    field, and as `check`.
    """

    def __post_init__(self):
        problems = wrong_types(vars(self), typing.get_type_hints(type(self)))
        if problems:
            raise UsageError("; ".join(problems))
        self.check()

    def check(self) -> None:
        """Raise UsageError for a value out of range."""


def is_group(candidate: object) -> bool:
    """Whether it is a class of settings, as its module writes it."""
    return isinstance(candidate, type) and issubclass(candidate, SettingsGroup) and dataclasses.is_dataclass(candidate)


def with_groups(factory: Callable) -> Callable:
    """A factory with its loose arguments put into the groups that its class has for them today.

    Bundles and recipes from before a class had groups give it one argument for each field. Others pass unchanged, a
    class without arguments among them.
    """
    if not isinstance(factory, partial):
        return factory
    try:
        takes = inspect.signature(factory.func).parameters
    except ValueError:
        return factory  # it does not say what it takes
    arguments = dict(factory.keywords)
    for name, parameter in takes.items():
        if not is_group(parameter.annotation):
            continue
        loose = {}
        for field in dataclasses.fields(parameter.annotation):
            if field.name in arguments and field.name not in takes:
                loose[field.name] = arguments.pop(field.name)
        if loose and name in arguments:
            raise UsageError(f"{', '.join(loose)} and {name} are given beside each other: write all of them in {name}")
        if loose:
            arguments[name] = parameter.annotation(**loose)
    return partial(factory.func, *factory.args, **arguments)


def wrong_types(values: Mapping[str, object], annotations: Mapping[str, object]) -> list[str]:
    """A sentence for every value that is of none of the plain types that its annotation allows.

    Values whose annotation allows other types too are passed over.
    """
    problems = []
    for name, value in values.items():
        allowed = _alternatives(annotations.get(name))
        if allowed and allowed <= set(PLAIN_TYPES) and not _is_one_of(value, allowed):
            meant = " or ".join(words for kind, words in PLAIN_TYPES.items() if kind in allowed)
            problems.append(f"{name}={value!r} must be {meant}")
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
