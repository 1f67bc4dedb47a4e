"""Bad data: every fault of the corpus meets its rule, and whatever else comes in is data or a sentence."""

import csv
import io
import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UsageError
from recipes.data.audio import fit_length, load_mono, peak_normalize, to_int16
from recipes.data.corpus import Clip, Corpus
from recipes.data.preparation import prepare
from recipes.data.splits import fold_split
from tests.helpers import refusal
from tools.faults import (
    HEADER,
    RATE,
    SECONDS,
    SOUNDS,
    TABLES,
    encoded,
    make,
    outcome,
    read_sound,
    read_table,
    rows,
    tone,
)
from tools.fuzz import fuzz, list_clips
from tools.reliability import DOCUMENT, fill, load

quick = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def one_line_refusal(reader, *args) -> str:
    """The one line with which data is refused."""
    sentence = refusal(reader, *args)
    assert sentence.isprintable()
    return sentence


@pytest.mark.parametrize("one", [one for one in SOUNDS if one.refusal], ids=lambda one: one.fault)
def test_a_sound_that_cannot_be_used_is_refused_by_name(one, tmp_path):
    told = one_line_refusal(read_sound, one, tmp_path)
    assert re.search(one.refusal, told)
    assert one.name in told or repr(one.name) in told
    assert "c.wav" not in told


@pytest.mark.parametrize("one", [one for one in SOUNDS if not one.refusal], ids=lambda one: one.fault)
def test_a_sound_that_can_be_used_is_heard_as_it_is(one, tmp_path):
    store = read_sound(one, tmp_path)
    found, expected = store.waveform(1), peak_normalize(tone(RATE)[:, 0].astype(np.float32))
    assert found.shape == (round(RATE * SECONDS),)
    assert np.abs(found).max() == pytest.approx(1, abs=1e-4)
    if one.fault == "one sample":
        assert np.count_nonzero(found) == 1
    else:  # 8 bits, companding and Vorbis leave noise; a cut at the clip's end rings a little
        inside = slice(RATE // 100, -RATE // 100)
        assert np.abs(found - expected)[inside].max() < 0.06


@pytest.mark.parametrize("one", [one for one in TABLES if one.refusal], ids=lambda one: one.fault)
def test_metadata_that_cannot_be_used_is_refused_with_the_fault(one, tmp_path):
    assert one.refusal in one_line_refusal(read_table, one, tmp_path)


@pytest.mark.parametrize("one", [one for one in TABLES if not one.refusal], ids=lambda one: one.fault)
def test_metadata_that_can_be_used_says_what_it_says(one, tmp_path):
    found = read_table(one, tmp_path).corpus
    assert [(clip.id, clip.fold, clip.label) for clip in found.clips] == [
        ("a", 1, "dog"), ("b", 2, "cat"), ("c", 3, "dog"),
    ][: len(found.clips)]  # fmt: skip
    assert found.class_names == ("dog", "cat")


def test_a_file_without_a_row_is_told(tmp_path, caplog):
    (one,) = (one for one in TABLES if one.fault == "a file without a row")
    read_table(one, tmp_path)
    assert caplog.messages == [f"{tmp_path / 'data/meta/mine.csv'} has no row for 1 files, which are left out: c.wav."]


def test_faults_of_metadata_and_sounds_are_told_at_once(tmp_path):
    table = rows("a.wav,x,0,dog,1", "b.wav,2,1,cat,2", "c.wav,3,1,cow,3", "gone.wav,3,1,cat,3")
    folder = make(tmp_path / "data", table, {"a.wav": encoded()(), "b.wav": b"", "c.wav": b"text"})
    told = one_line_refusal(prepare, folder, tmp_path / "cache", RATE, SECONDS)
    for part in ("folds that are no integers: 'x' (a.wav)", "1 (cat, cow)", "gone.wav", "2 of 3 files", "b.wav cannot"):
        assert part in told
    assert not (tmp_path / "cache").exists()


def test_leaking_recordings_are_told_before_anything_is_decoded_and_with_what_cannot_be(tmp_path):
    sound = encoded()()
    table = rows("a.wav,1,0,dog,77", "b.wav,2,1,cat,2", "c.wav,3,0,dog,77")
    folder = make(tmp_path / "data", table, {"a.wav": sound, "b.wav": sound[:200], "c.wav": sound})

    def check(corpus: Corpus) -> None:
        fold_split(corpus, [1], [2], [3])

    told = one_line_refusal(lambda: prepare(folder, tmp_path / "cache", RATE, SECONDS, check=check))
    assert "77 (dog)" in told
    assert "1 of 3 files cannot be used" in told
    assert "b.wav is cut off" in told
    assert not (tmp_path / "cache").exists()


def test_an_outcome_against_the_rule_shows(tmp_path):
    (one,) = (one for one in SOUNDS if one.fault == "zero bytes")
    assert outcome(read_sound, one)["as_ruled"]
    assert not outcome(lambda *_: 1 / 0, one)["as_ruled"]
    assert outcome(lambda *_: 1 / 0, one)["outcome"] == "ZeroDivisionError"


# whatever comes in


def test_a_thousand_changed_files_are_data_or_a_sentence(tmp_path):
    found = fuzz(500, 1, tmp_path)
    for part in found.values():
        assert part["faults"] == []
        assert part["read"] + part["refused"] == 500
        assert min(part["read"], part["refused"]) > 10


FIELD = st.one_of(
    st.sampled_from(["a.wav", "b.wav", "c.wav", "1", "2", "01", "dog", "cat", "", " "]), st.text(max_size=12)
)


@quick
@given(st.lists(st.tuples(*[FIELD] * 5), max_size=5))
def test_any_table_is_a_consistent_corpus_or_a_sentence(tmp_path_factory, table):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER.split(","), *table])
    files = dict.fromkeys(("a.wav", "b.wav", "c.wav"), encoded()())
    folder = make(tmp_path_factory.mktemp("any") / "set", text.getvalue().encode(errors="replace"), files)
    try:
        list_clips(folder)
    except UsageError as error:
        assert str(error).isprintable()


@quick
@given(st.binary(max_size=200))
def test_any_bytes_as_metadata_are_refused_in_one_line(tmp_path_factory, content):
    folder = make(tmp_path_factory.mktemp("any") / "set", content, {"a.wav": encoded()()})
    one_line_refusal(list_clips, folder)


GROUPS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=12)
FOLDS = st.lists(st.integers(1, 5), max_size=3)


@quick
@given(GROUPS, FOLDS, FOLDS, FOLDS)
def test_an_accepted_split_shares_neither_folds_nor_recordings(clips, train, valid, test):
    names = ("dog", "cat", "cow")
    corpus = Corpus(
        "any",
        tuple(
            Clip(str(i), Path(f"{i}.wav"), fold, (target,), (names[target],), str(group))
            for i, (fold, target, group) in enumerate(clips)
        ),
        names,
    )
    try:
        split = fold_split(corpus, train, valid, test)
    except UsageError as error:
        assert str(error).isprintable()
        return
    parts = [split.train, split.valid, split.test]
    assert all(set(part) <= set(corpus.folds) and part for part in parts)
    recordings = [{(c.group, c.label) for c in corpus.clips if c.fold in part} for part in parts]
    for (a, first), (b, second) in combinations(zip(parts, recordings, strict=True), 2):
        assert not set(a) & set(b)
        assert not first & second


SAMPLES = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=300)


@quick
@given(SAMPLES, st.integers(1, 8), st.sampled_from([1000, 8000, 11025, 44101, 48000, 192000]))
def test_any_finite_sound_becomes_finite_mono_of_the_right_length(tmp_path_factory, samples, channels, rate):
    wave = np.repeat(np.array(samples, np.float32)[:, None], channels, axis=1)
    path = tmp_path_factory.mktemp("any") / "a.wav"
    soundfile.write(path, wave, rate, subtype="FLOAT")
    found = load_mono(path, RATE)
    assert found.dtype == np.float32
    assert found.shape == (math.ceil(len(samples) * RATE / rate),)
    assert np.isfinite(found).all()
    clip = to_int16(peak_normalize(fit_length(found, 400)))
    assert clip.shape == (400,)
    peak = np.abs(clip.astype(int)).max()
    assert peak == 32767 or np.abs(found[:400]).max() < 1.1e-4


def test_the_document_shows_what_the_harnesses_left():
    text, found = DOCUMENT.read_text(encoding="utf-8"), load()
    assert fill(text, found) == text
    assert [one["as_ruled"] for part in found["data"].values() for one in part].count(False) == 0
    assert {one["fault"] for one in found["data"]["sounds"]} == {one.fault for one in SOUNDS}
    assert {one["fault"] for one in found["data"]["tables"]} == {one.fault for one in TABLES[1:]}
    assert sum(one["kills"] for one in found["kills"].values()) >= 50
    assert all(one["clips"] >= 10_000 for one in found["load"].values())


def test_the_document_shows_a_loss():
    found = json.loads(json.dumps(load()))
    found["kills"]["train"]["different"].append("metrics")
    assert "1: metrics" in fill(DOCUMENT.read_text(encoding="utf-8"), found)
