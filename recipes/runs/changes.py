"""What differs between two resolved recipes, key by key."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from recipes.config.tagged import Tagged

ABSENT = "nothing"
MAX_SHOWN = 60


@dataclass(frozen=True)
class Change:
    """A value that differs. key: dotted, such as `schedule.epochs`. old, new: `ABSENT` where there is none."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"

    @property
    def grows(self) -> bool:
        """Whether a number becomes larger."""
        return _is_number(self.old) and _is_number(self.new) and self.new > self.old


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def recipe_changes(old: dict, new: dict, left_out: Collection[str] = ()) -> list[Change]:
    """The values that differ between two recipes, each as `recipes.config.meaning.meaning` tells it.

    left_out: top-level keys that are not compared.
    """
    changes = []
    for key in dict.fromkeys((*old, *new)):
        if key not in left_out:
            changes.extend(_differences(key, old.get(key, ABSENT), new.get(key, ABSENT)))
    return changes


def phrases(changes: Sequence[Change]) -> list[str]:
    """The changes in words. A value that blocks of the recipe take from one of its top-level keys is told once."""
    top_level = [(change.old, change.new) for change in changes if "." not in change.key]
    sentences = []
    for change in changes:
        if "." not in change.key or (change.old, change.new) not in top_level:
            sentences.append(str(change))
    return sentences


def _differences(key: str, old: object, new: object) -> Iterator[Change]:
    if isinstance(old, Tagged) and isinstance(new, Tagged) and old.tag == new.tag:
        old, new = old.value, new.value
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{key}.{name}", old.get(name, ABSENT), new.get(name, ABSENT))
    elif old != new and not (old == ABSENT and new is None):  # a key that is new and null asks for nothing
        yield Change(key, old, new)


def _shown(value: object) -> str:
    text = "null" if value is None else str(value)
    if isinstance(value, Tagged):
        text = f"!{value.tag}"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
