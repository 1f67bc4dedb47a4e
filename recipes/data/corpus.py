"""A checked data set: its clips, its classes, and its folds divided into training, validation and test.

`recipes.data.metadata.read_corpus` makes one from a data folder.
"""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from models.errors import UsageError
from recipes.data.audio import read_audio
from recipes.data.sound_names import composed
from recipes.system.files import name_some
from recipes.system.problems import check_all
from recipes.system.threads import run_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """When a sound is heard in a clip, in seconds from the clip's start."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip: `target` is the class index, `group` the recording it was cut from (else its own id).

    events: when the sound that `label` names is heard; empty where nobody has noted it.
    """

    id: str
    path: Path
    fold: int
    target: int
    label: str
    group: str
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """A checked set. `clips[i].target` is the position of its label in `class_names`."""

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
            target = position[composed(clip.label)]
            clips.append(replace(clip, target=target, label=class_names[target]))
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


def fold_split(
    corpus: Corpus, train_folds: Sequence[int], valid_folds: Sequence[int], test_folds: Sequence[int]
) -> FoldSplit:
    """Check the three lists of folds against each other and the corpus.

    Raises UsageError when a list is empty or names a fold that the corpus lacks, when two lists share a fold, or
    when two of them hold clips of one recording under one label. Clips of one recording under *different* labels
    may be apart: ESC-50's own folds part four such recordings (a clock's tick and alarm, a hen and a rooster), and
    they cannot make a classifier look better than it is.
    """
    lists = {"train_folds": train_folds, "valid_folds": valid_folds, "test_folds": test_folds}
    for name, folds in lists.items():
        if not isinstance(folds, list | tuple) or not folds:
            raise UsageError(f"{name} is {folds!r}: give a list of folds out of {list(corpus.folds)}.")
        unknown = [fold for fold in folds if isinstance(fold, bool) or fold not in corpus.folds]
        if unknown:
            raise UsageError(f"{name} names {unknown}, which {corpus.name} lacks: choose from {list(corpus.folds)}.")
    for first, second in combinations(lists, 2):
        shared = sorted(set(lists[first]) & set(lists[second]))
        if shared:
            raise UsageError(f"{first} and {second} share the folds {shared}: give each fold to one of them.")
    _check_leakage(corpus, lists)
    return FoldSplit(tuple(train_folds), tuple(valid_folds), tuple(test_folds))


def cross_validation(corpus: Corpus) -> tuple[FoldSplit, ...]:
    """Each fold once as test, the one before it (the last for the first) as validation, the rest as training.

    Raises UsageError for fewer than three folds, and as `fold_split`.
    """
    folds = corpus.folds
    if len(folds) < 3:
        raise UsageError(f"{corpus.name} has the folds {list(folds)}: cross-validation needs at least three.")
    splits = []
    for i, test in enumerate(folds):
        valid = folds[i - 1]
        train = [fold for fold in folds if fold not in (valid, test)]
        splits.append(fold_split(corpus, train, [valid], [test]))
    return tuple(splits)


def check_trainable(corpus: Corpus, split: FoldSplit) -> None:
    """Raise UsageError where a class has no clip in the training folds: a classifier could never learn it."""
    folds_of_class = defaultdict(set)
    for clip in corpus.clips:
        folds_of_class[clip.label].add(clip.fold)
    untrained = []
    for name in corpus.class_names:
        folds = folds_of_class[name]
        if folds.isdisjoint(split.train):
            untrained.append(f"{name} (only in {_fold_list(folds)})")
    if untrained:
        raise UsageError(
            f"{len(untrained)} of the {len(corpus.class_names)} classes of {corpus.name} have no clip in the training "
            f"folds {list(split.train)} and could never be learned: {name_some(untrained)}; move clips of them into "
            "a training fold, choose other train_folds, or take these classes out of the table"
        )


def warn_of_unused_folds(corpus: Corpus, splits: Sequence[FoldSplit]) -> None:
    """Say which folds take no part: recipes name three lists for five folds, and a set may have ten."""
    used = set()
    for split in splits:
        used.update(split.train, split.valid, split.test)
    unused = set(corpus.folds) - used
    if unused:
        logger.warning(
            "The clips of %s of %s are not used by train_folds, valid_folds or test_folds.",
            _fold_list(unused),
            corpus.name,
        )


def indices(corpus: Corpus, folds: Sequence[int]) -> list[int]:
    """Positions in `corpus.clips` of the clips in these folds, in the order of the metadata."""
    return [i for i, clip in enumerate(corpus.clips) if clip.fold in folds]


def refuse_with_sounds(sentence: str, paths: Sequence[Path]) -> None:
    """Raise UsageError with a fault of the metadata and all sound files that cannot be used.

    The user then mends all of them in one round.
    """
    check_sounds = partial(run_all, partial(read_audio, seconds=1e-3), paths, os.cpu_count() or 1)
    check_all(check_sounds, told=[sentence])


def _check_leakage(corpus: Corpus, lists: dict[str, Sequence[int]]) -> None:
    part_of_fold = {}
    for name, folds in lists.items():
        part_of_fold |= dict.fromkeys(folds, name)
    parts = defaultdict(set)
    for clip in corpus.clips:
        if clip.fold in part_of_fold:
            parts[clip.group, clip.label].add(part_of_fold[clip.fold])
    leaking = []
    for (group, label), names in parts.items():
        if len(names) > 1:
            leaking.append(f"{group} ({label})")
    if leaking:
        refuse_with_sounds(
            f"{len(leaking)} recordings of {corpus.name} have clips in several of train, valid and test: "
            f"{name_some(leaking)}; keep a recording's clips in one fold.",
            [clip.path for clip in corpus.clips],
        )


def _fold_list(folds: set[int]) -> str:
    numbers = ", ".join(map(str, sorted(folds)))
    return f"fold {numbers}" if len(folds) == 1 else f"folds {numbers}"
