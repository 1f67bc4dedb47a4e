"""The data that a run reads, and its division into folds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import UsageError
from models.labels import Labels
from recipes.data.clips import ClipStore
from recipes.data.corpus import Corpus, FoldSplit
from recipes.data.preparation import DataSource, prepare, warn_of_copies
from recipes.data.splits import cross_validation, fold_split, warn_of_unused_folds
from recipes.system.problems import check_all

if TYPE_CHECKING:
    from recipes.runs.subject import Subject


def open_store(
    values: dict, clip_seconds: float, sample_rate: int = 16000, check: Callable[[Corpus], object] = lambda corpus: None
) -> ClipStore:
    """Check and decode the data of a recipe's plain values for a model of that clip length and rate (Hz).

    check: what else the metadata must pass before anything is decoded, beside the recipe's folds.
    """
    store = prepare(
        data_source(values),
        values["cache_folder"],
        sample_rate,
        clip_seconds,
        check=lambda corpus: check_all(partial(check, corpus), partial(splits_of, values, corpus)),
    )
    splits = splits_of(values, store.corpus)
    warn_of_unused_folds(store.corpus, splits)
    warn_of_copies(store, splits)
    return store


def open_data(values: Mapping, subject: "Subject") -> ClipStore:
    """The data of a recipe, decoded as the classifier wants it, its classes in the order of the classifier's outputs.

    Classes are matched by name. Raises UsageError naming those that only one of the two has.
    """
    info = subject.info

    def in_order(corpus: Corpus) -> Corpus:
        try:
            check_labels(corpus, subject.offers.labels)
            return corpus.in_order_of(info.class_names)
        except UsageError as error:
            raise UsageError(f"{subject.bundle.path} does not fit {values['data_folder']}: {error}") from error

    store = open_store(values, info.clip_seconds, info.sample_rate, check=in_order)
    return replace(store, corpus=in_order(store.corpus))


def check_labels(corpus: Corpus, labels: Labels) -> None:
    """Raise UsageError for clips of several labels and a classifier that knows one a clip."""
    if corpus.has_several and labels.exclusive:
        count = sum(len(clip.labels) > 1 for clip in corpus.clips)
        raise UsageError(
            f"{count} clips of {corpus.name} have several labels, and the classifier gives one a clip: train one with "
            "--labels=several --loss=binary_cross_entropy, or leave label_separator out"
        )


def data_source(values: dict) -> DataSource:
    """Where the data of a recipe's plain values come from."""
    return DataSource(
        Path(values["data_folder"]),
        values["subset"],
        columns=values.get("columns") or {},
        label_separator=values.get("label_separator"),
        download=values.get("download", False),
    )


def splits_of(values: dict, corpus: Corpus) -> tuple[FoldSplit, ...]:
    """The fold splits a recipe asks for: its three lists, or every fold once as test."""
    if values["folds"] == "all":
        return cross_validation(corpus)
    return (fold_split(corpus, values["train_folds"], values["valid_folds"], values["test_folds"]),)
