"""Folds for sets that come without them: by the names of splits, by file names, or made."""

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.data.sound_names import stem_of

if TYPE_CHECKING:
    from recipes.data.layouts import Layout
    from recipes.data.metadata_faults import Entry

logger = logging.getLogger(__name__)

MADE_FOLDS = 5
VALID_FOLD, TEST_FOLD = "4", "5"

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What folders or folds of splits are called, and which split each means."""

ESC_NAME = re.compile(r"(?P<fold>\d{1,2})-(?P<recording>\w+)-[A-Z](-\d+)?", re.ASCII)
"""`1-17367-A` or `1-17367-A-10`: fold, recording, take, and target, as ESC-10 and ESC-50 name their files."""


def complete_folds(layout: "Layout", entries: Sequence["Entry"]) -> None:
    """Number the folds of clips that have splits instead, or a folder for each class and no folds at all.

    How folds came about is told. Folds that a table gives are left as they are.
    """
    if layout.has_split_folders and not any(entry.fold for entry in entries):
        for entry in entries:
            entry.fold = split_of(entry.file or entry.filename)
    in_splits = all(entry.fold.lower() in SPLITS for entry in entries)
    if in_splits:
        how = _number_splits(entries)
    elif layout.tables:
        return
    elif all(ESC_NAME.fullmatch(stem_of(entry.name)) for entry in entries):
        how = _read_esc_names(entries)
    else:
        how = _make_folds(entries)
    logger.warning("%s has no numbered folds: %s.", layout.name, how)


def _number_splits(entries: Sequence["Entry"]) -> str:
    """Turn the splits that a set comes with into the folds that recipes use by default; returns how, in words.

    The validation split is fold 4 and the test split fold 5. The training split is divided into folds 1 to 3; where
    there is no validation split, into folds 1 to 4, so that fold 4 serves as one.
    """
    training, has_validation = [], False
    for entry in entries:
        split = SPLITS[entry.fold.lower()]
        if split == "train":
            training.append(entry)
        else:
            has_validation = has_validation or split == "valid"
            entry.fold = VALID_FOLD if split == "valid" else TEST_FOLD
    count = 3 if has_validation else 4
    _make_folds(training, count)
    return f"its training split is folds 1 to {count}, validation is fold 4 and the test split fold 5"


def _read_esc_names(entries: Sequence["Entry"]) -> str:
    """Take fold and recording from names as ESC-50 has them; returns how, in words."""
    for entry in entries:
        name = ESC_NAME.fullmatch(stem_of(entry.name))
        entry.fold, entry.recording = name["fold"], name["recording"]
    return "the first number of each file's name is its fold and the second its recording, as in ESC-50"


def _make_folds(entries: Sequence["Entry"], count: int = MADE_FOLDS) -> str:
    """Spread clips over folds; returns how, in words."""
    recordings, labels = [], []
    for entry in entries:
        recordings.append(entry.recording or entry.id)
        labels.append(entry.category)
    for entry, fold in zip(entries, make_folds(recordings, labels, count), strict=True):
        entry.fold = str(fold)
    return f"{count} were made with the classes spread evenly, and each file counts as a recording of its own"


def make_folds(recordings: Sequence[str], labels: Sequence[str], count: int = MADE_FOLDS) -> list[int]:
    """A fold from 1 to `count` for each clip: clips of one recording share one, and classes are spread evenly.

    Recordings are taken in the order of a hash of their names, and each goes to the fold that has the fewest clips of
    its classes so far. The order in which clips are listed changes nothing.
    """
    labels_of = defaultdict(Counter)
    for recording, label in zip(recordings, labels, strict=True):
        labels_of[recording][label] += 1
    clips_in = {fold: Counter() for fold in range(1, count + 1)}
    fold_of = {}
    for recording in sorted(labels_of, key=_hash):
        own = labels_of[recording]
        fold = min(clips_in, key=lambda number: _load(clips_in[number], own))
        fold_of[recording] = fold
        clips_in[fold] += own
    return [fold_of[recording] for recording in recordings]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _load(clips: Counter, labels: Counter) -> tuple[int, int]:
    """How many clips of these labels a fold has, and of all labels."""
    return sum(clips[label] for label in labels), clips.total()


def split_of(file: str) -> str:
    """The split, a value of `SPLITS`, whose folder a file lies in, or ""."""
    first, separator, _ = file.partition("/")
    return SPLITS.get(first.lower(), "") if separator else ""
