"""Classes by name, and classes that a classifier could never learn."""

import unicodedata
from pathlib import Path

import pytest

from models.errors import UsageError
from recipes.data.corpus import Clip, Corpus, FoldSplit
from recipes.data.splits import check_trainable

NAMES = ("low", "mid", "high")


def corpus_of(*clips: tuple[int, str], names=NAMES) -> Corpus:
    """A corpus of clips (fold, label)."""
    made = []
    for number, (fold, label) in enumerate(clips):
        name = str(number)
        made.append(Clip(name, Path(f"{name}.wav"), fold, (names.index(label),), (label,), name))
    return Corpus("mine", tuple(made), names)


FIVE = corpus_of((1, "low"), (2, "mid"), (3, "high"), (4, "mid"), (5, "low"))


def test_classes_follow_a_classifier_by_name():
    reordered = FIVE.in_order_of(("high", "low", "mid"))
    assert reordered.class_names == ("high", "low", "mid")
    assert [clip.label for clip in reordered.clips] == [clip.label for clip in FIVE.clips]
    assert [clip.target for clip in reordered.clips] == [1, 2, 0, 2, 1]
    assert [clip.id for clip in reordered.clips] == [clip.id for clip in FIVE.clips]
    assert FIVE.in_order_of(NAMES) == FIVE


def test_classes_that_only_one_side_has_are_named():
    with pytest.raises(UsageError, match=r"by name: mine lacks higher, top and mine has high besides$"):
        FIVE.in_order_of(("low", "mid", "higher", "top"))
    with pytest.raises(UsageError, match=r"by name: mine lacks highest$"):
        FIVE.in_order_of((*NAMES, "highest"))
    with pytest.raises(UsageError, match=r"by name: mine has mid besides$"):
        FIVE.in_order_of(("low", "high"))


def test_classes_are_matched_in_any_unicode_form():
    composed, decomposed = (unicodedata.normalize(form, "Käuzchen") for form in ("NFC", "NFD"))
    owls = corpus_of((1, "a"), (1, composed), names=("a", composed))
    reordered = owls.in_order_of((decomposed, "a"))
    assert reordered.class_names == (decomposed, "a")
    assert [(clip.label, clip.target) for clip in reordered.clips] == [("a", 1), (decomposed, 0)]


def test_a_class_without_training_clips_is_refused():
    check_trainable(FIVE, FoldSplit((1, 2, 3), (4,), (5,)))
    with pytest.raises(UsageError, match=r"1 of the 3 classes .* no clip in the training folds \[1, 2\].*: high"):
        check_trainable(FIVE, FoldSplit((1, 2), (3, 4), (5,)))
    with pytest.raises(UsageError, match=r"low \(only in folds 1, 5\), high \(only in fold 3\)"):
        check_trainable(FIVE, FoldSplit((2, 4), (3,), (5,)))
