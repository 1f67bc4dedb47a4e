"""Factories of a recipe (`!name:`): whether they take the arguments that the recipe gives."""

import inspect
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from models.errors import UsageError
from models.settings import wrong_types


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
        problems = wrong_types(built.keywords, _annotations(built))
        if problems:
            raise UsageError(f"{path}: {name}: {'; '.join(problems)}")
        check_factories(built.keywords, path)


def _annotations(factory: partial) -> dict[str, object]:
    """The types of what a factory takes; none where they are there for type checkers only."""
    function = factory.func.__init__ if inspect.isclass(factory.func) else factory.func
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}
