"""Folds for sets that come without them: by the names of splits, by file names, or made."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

MADE_FOLDS = 5
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
VALID_FOLD, TEST_FOLD = 4, 5

ESC_NAME = re.compile(r"(\d{1,2})-(\w+)-[A-Z](-\d+)?", re.ASCII)
"""`1-17367-A` or `1-17367-A-10`: fold, recording, take, and target, as ESC-10 and ESC-50 name their files."""


def esc_names(stems: Sequence[str]) -> list[tuple[int, str]] | None:
    """Fold and recording of each file where all are named as in ESC-50, else None."""
    named = []
    for stem in stems:
        match = ESC_NAME.fullmatch(stem)
        if match is None:
            return None
        named.append((int(match[1]), match[2]))
    return named


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
    for recording in sorted(labels_of, key=lambda name: hashlib.sha256(name.encode()).digest()):
        loads = {fold: _load(clips, labels_of[recording]) for fold, clips in clips_in.items()}
        fold = min(loads, key=loads.get)
        fold_of[recording] = fold
        clips_in[fold] += labels_of[recording]
    return [fold_of[recording] for recording in recordings]


def _load(clips: Counter, labels: Counter) -> tuple[int, int]:
    """How many clips of these labels a fold has, and of all labels."""
    return sum(clips[label] for label in labels), clips.total()


def folds_of_splits(splits: Sequence[str], recordings: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Folds for the splits "train", "valid" and "test" that a set comes with, as recipes use them by default.

    The validation split is fold 4 and the test split fold 5. The training split is divided into folds 1 to 3; where
    there is no validation split, into folds 1 to 4, so that fold 4 serves as one.
    """
    fold_of_split = {"valid": VALID_FOLD, "test": TEST_FOLD}
    training = [i for i, split in enumerate(splits) if split == "train"]
    count = VALID_FOLD - 1 if "valid" in splits else VALID_FOLD
    made = make_folds([recordings[i] for i in training], [labels[i] for i in training], count)
    folds = [fold_of_split.get(split, 0) for split in splits]
    for i, fold in zip(training, made, strict=True):
        folds[i] = fold
    return folds
