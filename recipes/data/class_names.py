"""Classes by the names that people give them; nothing slow is imported here."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from models.errors import UsageError


def class_index(names: Sequence[str], asked: str | int | None) -> int | None:
    """The index of a class that is asked for by its name, or by its index; None for None.

    Raises UsageError for anything else, naming the nearest classes.
    """
    if asked is None:
        return None
    text = str(asked)
    if text in names:
        return list(names).index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    near = get_close_matches(text, names, 3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(names[:8])}, …"
    raise UsageError(f"target={text!r} is no class of this classifier, nor an index from 0 to {len(names) - 1}; {hint}")


def names_of_bundle(bundle: Path) -> list[str] | None:
    """The classes that a bundle's facts name; None where they cannot be read, which loading the bundle will tell."""
    try:
        facts = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        return [str(name) for name in facts["class_names"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def name_classes(classifier: object, names: Sequence[str]) -> None:
    """Tell a classifier whose classes are prompts what they are called, in the order of its outputs."""
    if hasattr(classifier, "name_classes"):
        classifier.name_classes(names)
