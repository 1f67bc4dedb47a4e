"""Clips of several labels: how tables list them, what is refused about them, and the sources that are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from models.errors import UsageError
from models.labels import NO_CLASS
from recipes.data.clips import ClipDataset, collate
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.data.corpus import Corpus
from recipes.data.metadata import read_corpus
from recipes.data.preparation import DataSource, prepare
from recipes.data.splits import check_trainable, fold_split

RATE = 8000
NAMES = ("a.wav", "b.wav", "c.wav")


def tone(hertz: float, level: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(RATE // 10) / RATE)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three sounds without a table, each of a low tone and a quieter high one, which also lie in `alone/`."""
    for place in ("audio", "alone"):
        (tmp_path / place).mkdir()
    low, high = tone(300, 0.4), tone(2000, 0.1)
    for name in NAMES:
        soundfile.write(tmp_path / "audio" / name, low + high, RATE)
    soundfile.write(tmp_path / "alone" / "low.wav", low, RATE)
    soundfile.write(tmp_path / "alone" / "high.wav", high, RATE)
    return tmp_path


def put_labels(folder: Path, *labels: str, targets: tuple[str, ...] = ()) -> Path:
    """Write the table: the clips of `NAMES`, each in a fold of its own."""
    lines = ["filename,fold,category" + (",target" if targets else "")]
    for number, name in enumerate(NAMES):
        line = f'{name},{number + 1},"{labels[number]}"'
        lines.append(line + (f',"{targets[number]}"' if targets else ""))
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta/mine.csv").write_text("\n".join([*lines, ""]))
    return folder


def labels_of(corpus: Corpus) -> list[tuple[str, ...]]:
    return [clip.labels for clip in corpus.clips]


def refusal(folder: Path, separator: str = ";") -> str:
    with pytest.raises(UsageError) as caught:
        read_corpus(folder, label_separator=separator)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("separator", [";", ",", " + ", "|"])
def test_labels_are_what_stands_between_separators(folder, separator):
    put_labels(folder, f"dog{separator} rain", "rain", f"siren {separator}dog")
    corpus = read_corpus(folder, label_separator=separator)
    assert corpus.class_names == ("dog", "rain", "siren")
    assert labels_of(corpus) == [("dog", "rain"), ("rain",), ("siren", "dog")]
    assert [clip.targets for clip in corpus.clips] == [(0, 1), (1,), (2, 0)]
    assert corpus.clips[2].label == "siren; dog"
    assert corpus.has_several
    truth = corpus.truth([2, 1, 2])
    assert truth.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert truth.dtype == torch.bool


def test_without_a_separator_a_category_is_one_label(folder):
    corpus = read_corpus(put_labels(folder, "dog;rain", "rain", "dog"))
    assert labels_of(corpus) == [("dog;rain",), ("rain",), ("dog",)]
    assert not corpus.has_several


def test_targets_number_the_labels_beside_them(folder):
    put_labels(folder, "dog;rain", "rain", "siren;dog", targets=("7;3", "3", "1;7"))
    corpus = read_corpus(folder, label_separator=";")
    assert corpus.class_names == ("siren", "rain", "dog")
    assert [clip.targets for clip in corpus.clips] == [(2, 1), (1,), (0, 2)]


@pytest.mark.parametrize(
    ("labels", "targets", "sentence"),
    [
        (("dog;;rain", "rain", "dog"), (), "1 clips without a category beside a separator: a.wav"),
        (("dog;rain", "rain;", "dog"), (), "1 clips without a category beside a separator: b.wav"),
        (("dog", "", "dog"), (), "1 clips without a category: b.wav"),
        (("dog;rain;dog", "rain", "dog"), (), "1 clips that have a category twice: a.wav (dog; rain; dog)"),
        (
            ("dog;rain", "rain", "dog"),
            ("1", "2", "1"),
            "more or fewer targets than categories: a.wav (1 for 2)",
        ),
        (("dog;rain", "rain", "dog"), ("1;x", "2", "1"), "1 targets that are no integers: 'x' (a.wav)"),
        (("dog;rain", "rain", "dog"), ("1;2", "1", "1"), "1 targets with several categories: 1 (dog, rain)"),
    ],
)
def test_each_fault_of_such_a_table_is_told(folder, labels, targets, sentence):
    assert sentence in refusal(put_labels(folder, *labels, targets=targets))


def test_a_separator_that_no_category_has_is_told(folder, caplog):
    corpus = read_corpus(put_labels(folder, "dog,rain", "rain", "dog"), label_separator=";")
    assert "label_separator=';' is in no category of" in caplog.text
    assert corpus.class_names == ("dog", "dog,rain", "rain")


def test_a_separator_without_a_table_is_refused(tmp_path):
    for label in ("dog", "rain"):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "1.wav", tone(300, 0.5), RATE)
    assert "label_separator=';' is for tables, and" in refusal(tmp_path)


def test_a_classifiers_order_of_classes_moves_every_label(folder):
    corpus = read_corpus(put_labels(folder, "dog;rain", "rain", "siren;dog"), label_separator=";")
    moved = corpus.in_order_of(("siren", "dog", "rain"))
    assert [clip.targets for clip in moved.clips] == [(1, 2), (2,), (0, 1)]
    assert labels_of(moved) == labels_of(corpus)


def test_a_class_is_trained_where_any_clip_of_several_labels_has_it(folder):
    corpus = read_corpus(put_labels(folder, "dog;rain", "rain", "dog"), label_separator=";")
    check_trainable(corpus, fold_split(corpus, [1], [2], [3]))
    with pytest.raises(UsageError, match="dog"):
        check_trainable(corpus, fold_split(corpus, [2], [1], [3]))


def test_a_batch_has_no_one_label_for_a_clip_of_several(folder):
    put_labels(folder, "dog;rain", "rain", "dog")
    store = prepare(DataSource(folder, label_separator=";"), folder / "cache", RATE, 0.1)
    dataset = ClipDataset(store, [0, 1, 2])
    assert collate([dataset[k] for k in range(3)]).label.tolist() == [NO_CLASS, 1, 0]
    with pytest.raises(ValueError):
        _ = store.corpus.clips[0].target
    with pytest.raises(UsageError, match="mixes clips of one label, and clips of mine have several"):
        Contamination(ContaminationSettings("mixture", 0), store, "test", range(3))


# known sources


def put_sources(folder: Path, *rows: str) -> Path:
    (folder / "sources.csv").write_text("\n".join(["filename,label,source", *rows, ""]))
    return folder


def test_sources_are_as_loud_as_in_their_clip(folder):
    put_labels(folder, "low;high", "high", "low")
    put_sources(folder, "a.wav,high,alone/high.wav", "a.wav,low,alone/low.wav", "c.wav,low,alone/low.wav")
    store = prepare(DataSource(folder, label_separator=";"), folder / "cache", RATE, 0.1)
    assert store.corpus.has_sources
    found = store.sources(0)
    assert [store.corpus.class_names[target] for target, _ in found] == ["low", "high"]
    assert np.allclose(found[0][1] + found[1][1], store.waveform(0), atol=2e-4)  # 16 bits
    assert np.abs(found[0][1]).max() / np.abs(found[1][1]).max() == pytest.approx(4, rel=0.05)
    assert store.sources(1) == []
    assert len(store.sources(2)) == 1


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("d.wav,low,alone/low.wav", "1 sources of clips that the metadata lacks: d.wav"),
        ("b.wav,low,alone/low.wav", "1 sources of labels that their clip has not: low (b.wav)"),
        ("a.wav,low,alone/gone.wav", "sources that are no file in"),
        ("a.wav,low,../low.wav", "sources that are no file in"),
        ("a.wav,high,alone/high.wav", "1 sources given twice: high (a.wav)"),
    ],
)
def test_each_fault_of_sources_is_told(folder, row, sentence):
    put_labels(folder, "low;high", "high", "low")
    assert sentence in refusal(put_sources(folder, "a.wav,high,alone/high.wav", row))
