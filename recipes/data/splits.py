"""A corpus's folds divided into training, validation and test, and what is refused about that."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from models.errors import UsageError
from recipes.data.audio import read_audio
from recipes.data.corpus import Corpus, FoldSplit
from recipes.system.files import name_some
from recipes.system.problems import check_all
from recipes.system.threads import run_all

logger = logging.getLogger(__name__)


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
        unknown = []
        for fold in folds:
            if isinstance(fold, bool) or fold not in corpus.folds:  # True equals 1
                unknown.append(fold)
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
        for label in clip.labels:
            folds_of_class[label].add(clip.fold)
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


def refuse_with_sounds(sentence: str, paths: Sequence[Path]) -> None:
    """Raise UsageError with a fault of the metadata and all sound files that cannot be used.

    The user then mends all of them in one round.
    """
    check_sounds = partial(run_all, partial(read_audio, seconds=1e-3), paths, os.cpu_count() or 1)
    check_all(check_sounds, earlier=[sentence])


def _check_leakage(corpus: Corpus, lists: dict[str, Sequence[int]]) -> None:
    part_of_fold = {}
    for name, folds in lists.items():
        part_of_fold |= dict.fromkeys(folds, name)
    parts = defaultdict(set)
    for clip in corpus.clips:
        if clip.fold in part_of_fold:
            for label in clip.labels:
                parts[clip.group, label].add(part_of_fold[clip.fold])
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
