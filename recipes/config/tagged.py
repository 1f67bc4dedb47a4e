"""A tagged value of a YAML file, before it is built."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tagged:
    """A tagged value of a YAML file, not built: `!new:a.B {c: 1}` has the tag "new:a.B" and the value {"c": 1}."""

    tag: str
    value: object
