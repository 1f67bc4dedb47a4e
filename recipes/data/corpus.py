"""A checked data set: its clips, its classes, and which of its folds train, validate and test.

`recipes.data.metadata.read_corpus` makes one from a data folder.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import UsageError
from recipes.data.sound_names import LABEL_JOINT, composed
from recipes.system.files import name_some

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """When a sound is heard in a clip, in seconds from the clip's start."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip: `labels` are its classes and `targets` their indices, `group` the recording it was cut from (else its
    own id).

    events: when the sound that the one label names is heard; empty where nobody has noted it. sources: for each label
    the sound file of what it names, None where it is not known; empty where none of them is.
    """

    id: str
    path: Path
    fold: int
    targets: tuple[int, ...]
    labels: tuple[str, ...]
    group: str
    events: tuple[Event, ...] = ()
    sources: tuple[Path | None, ...] = ()

    @property
    def label(self) -> str:
        """The labels as people read them."""
        return LABEL_JOINT.join(self.labels)

    @property
    def target(self) -> int:
        """The class index of a clip of one label. Raises ValueError for another clip."""
        (target,) = self.targets
        return target


@dataclass(frozen=True)
class Corpus:
    """A checked set. `clips[i].targets` are the positions of its labels in `class_names`."""

    name: str
    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({clip.fold for clip in self.clips}))

    @property
    def has_events(self) -> bool:
        """Whether anybody has noted when the sound of a clip is heard."""
        return any(clip.events for clip in self.clips)

    @property
    def has_several(self) -> bool:
        """Whether a clip has several labels."""
        return any(len(clip.labels) > 1 for clip in self.clips)

    @property
    def has_sources(self) -> bool:
        """Whether it is known of a clip what its labels sound like alone."""
        return any(clip.sources for clip in self.clips)

    def truth(self, positions: Sequence[int]) -> Tensor:
        """[n, K] bool: which classes the clips at these positions have."""
        truth = torch.zeros(len(positions), len(self.class_names), dtype=torch.bool)
        for row, i in enumerate(positions):
            truth[row, list(self.clips[i].targets)] = True
        return truth

    @property
    def events_hash(self) -> str:
        """Hex digest of the noted events: ground truth that scores rest on."""
        digest = hashlib.sha256()
        for clip in self.clips:
            for event in clip.events:
                digest.update(f"{clip.id} {event.start} {event.end}\n".encode())
        return digest.hexdigest()

    def in_order_of(self, class_names: Sequence[str]) -> "Corpus":
        """This corpus with its classes in the order of `class_names`, such as those of a classifier.

        Classes are matched by name. The number that a table gives a class says nothing about the output of a
        classifier. Labels take the spelling of `class_names`.

        Raises UsageError that names the classes which only one of the two has.
        """
        position = {composed(name): i for i, name in enumerate(class_names)}
        differences = []
        missing = _without(class_names, self.class_names)
        if missing:
            differences.append(f"{self.name} lacks {name_some(missing)}")
        surplus = _without(self.class_names, class_names)
        if surplus:
            differences.append(f"{self.name} has {name_some(surplus)} besides")
        if differences:
            raise UsageError(
                f"the classes of {self.name} must be the {len(class_names)} of the classifier by name: "
                f"{' and '.join(differences)}"
            )
        clips = []
        for clip in self.clips:
            targets = tuple(position[composed(label)] for label in clip.labels)
            clips.append(replace(clip, targets=targets, labels=tuple(class_names[target] for target in targets)))
        return replace(self, clips=tuple(clips), class_names=tuple(class_names))


def _without(names: Sequence[str], removed: Sequence[str]) -> list[str]:
    """Those of the names that are not among the removed ones."""
    spellings = set(map(composed, removed))
    return [name for name in names if composed(name) not in spellings]


@dataclass(frozen=True)
class FoldSplit:
    """Disjoint fold numbers: fit weights on `train`, make choices on `valid`, report results on `test`."""

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]


def indices(corpus: Corpus, folds: Sequence[int]) -> list[int]:
    """Positions in `corpus.clips` of the clips in these folds, in the order of the metadata."""
    return [i for i, clip in enumerate(corpus.clips) if clip.fold in folds]


def evenly_spaced(positions: Sequence[int], count: int) -> list[int]:
    """At most `count` of some positions, the first and the last among them."""
    places = np.linspace(0, len(positions) - 1, min(count, len(positions)))
    chosen = []
    for place in places:
        chosen.append(positions[round(place)])
    return chosen
