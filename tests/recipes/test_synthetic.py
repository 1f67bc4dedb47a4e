import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes import synthetic
from recipes.data.metadata import read_corpus
from recipes.data.splits import cross_validation
from recipes.synthetic import CATEGORIES, EDGE_HZ, main, make_clip, make_corpus

SMALL = {"clips_per_class": 5, "seconds": 1.0, "mixtures": 12}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path):
    samples, rate = soundfile.read(path, dtype="int16")
    assert samples.ndim == 1
    assert soundfile.info(path).subtype == "PCM_16"
    return samples.astype(int), rate


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", **SMALL)


def test_layout_is_esc50s(corpus):
    header = (corpus / "meta/synthetic.csv").read_bytes().split(b"\n")[0]
    assert header == b"filename,fold,target,category,esc10,src_file,take"
    rows = table(corpus / "meta/synthetic.csv")
    assert len(rows) == len({row["src_file"] for row in rows}) == 50
    for row in rows:
        assert row["filename"] == f"{row['fold']}-{row['src_file']}-A-{row['target']}.flac"
        assert (row["category"], row["esc10"], row["take"]) == (CATEGORIES[int(row["target"])], "False", "A")
        samples, rate = read(corpus / "audio" / row["filename"])
        assert (len(samples), rate) == (16000, 16000)
    assert {path.name for path in (corpus / "audio").iterdir()} == {row["filename"] for row in rows}
    per_fold = Counter((row["fold"], row["target"]) for row in rows)
    assert len(per_fold) == 5 * 10
    assert set(per_fold.values()) == {1}


def test_the_recipes_read_it_as_they_read_esc50(corpus):
    found = read_corpus(corpus)
    assert found.class_names == CATEGORIES
    assert len(found.clips) == 50
    assert {split.test for split in cross_validation(found)} == {(1,), (2,), (3,), (4,), (5,)}


def test_same_seed_same_bytes_another_seed_other_sounds(corpus, tmp_path):
    again = contents(make_corpus(tmp_path / "again", **SMALL))
    assert again == contents(corpus)
    other = contents(make_corpus(tmp_path / "other", **SMALL, seed=1))
    assert other.keys() == again.keys()
    assert not any(other[path] == again[path] for path in other if path.parts[0] == "audio")


def test_a_clip_does_not_depend_on_the_size_of_the_corpus(corpus, tmp_path):
    larger = contents(make_corpus(tmp_path / "larger", clips_per_class=10, seconds=1.0, mixtures=0))
    for path, stored in contents(corpus).items():
        if path.parts[0] == "audio":
            assert larger[path] == stored


def test_event_lies_in_its_box_and_the_rest_of_the_clip_is_background(corpus):
    for row in table(corpus / "truth/support.csv"):
        event, rate = read(corpus / f"truth/{row['id']}.flac")
        background = (read(corpus / f"audio/{row['id']}.flac")[0] - event) / 32768
        onset, offset = round(float(row["onset_s"]) * rate), round(float(row["offset_s"]) * rate)
        assert not event[:onset].any()
        assert not event[offset:].any()
        assert 0.25 * rate < offset - onset <= 0.7 * len(event)

        power, hertz = np.abs(np.fft.rfft(event)) ** 2, np.fft.rfftfreq(len(event), 1 / rate)
        low, high = float(row["low_hz"]), float(row["high_hz"])
        assert 0 < low < high < 8000
        assert power[(hertz >= low) & (hertz <= high)].sum() >= 0.99 * power.sum(), row["id"]

        assert 0.0005 * 0.97 < np.std(background) < 0.002 * 1.03
        assert np.mean((event / 32768) ** 2) > 30 * np.mean(background**2)


def test_box_is_not_much_larger_than_the_event(corpus):
    for row in table(corpus / "truth/support.csv"):
        event, rate = read(corpus / f"truth/{row['id']}.flac")
        power, hertz = np.abs(np.fft.rfft(event)) ** 2, np.fft.rfftfreq(len(event), 1 / rate)
        band = np.ptp(hertz[np.searchsorted(np.cumsum(power) / power.sum(), [0.005, 0.995])])
        extent = np.ptp(np.searchsorted(np.cumsum(event**2) / np.sum(event**2), [0.005, 0.995])) / rate
        assert band > 0.4 * (float(row["high_hz"]) - float(row["low_hz"]) - 2 * EDGE_HZ), row["id"]
        assert extent > 0.6 * (float(row["offset_s"]) - float(row["onset_s"])), row["id"]


@pytest.mark.parametrize("rate", [16000, 44100])
def test_box_holds_at_other_rates_and_lengths(rate):
    for target in range(len(CATEGORIES)):
        clip = make_clip(target, 3, seconds=1.7, sample_rate=rate, seed=2**32 - 1)
        power, hertz = np.abs(np.fft.rfft(clip.event)) ** 2, np.fft.rfftfreq(len(clip.event), 1 / rate)
        inside = power[(hertz >= clip.low_hz) & (hertz <= clip.high_hz)].sum()
        assert inside >= 0.99 * power.sum(), clip.id


@pytest.mark.parametrize(("category", "sign"), [("rising_chirp", 1), ("falling_chirp", -1)])
def test_chirps_move_as_named(category, sign):
    for index in range(5):
        clip = make_clip(CATEGORIES.index(category), index, seconds=1.0, sample_rate=16000, seed=0)
        halves = np.array_split(clip.event[clip.onset : clip.offset].astype(float), 2)
        crossings = [np.mean(np.diff(np.signbit(half))) for half in halves]
        assert sign * np.log(crossings[1] / crossings[0]) > 0.4


def test_onsets_and_levels_vary_within_a_class():
    for target in range(len(CATEGORIES)):
        clips = [make_clip(target, index, seconds=1.0, sample_rate=16000, seed=0) for index in range(10)]
        peaks = [np.abs(clip.event).max() / 32768 for clip in clips]
        assert 0.2 - 1e-4 < min(peaks) < 0.5 < max(peaks) < 0.8 + 1e-4
        assert np.ptp([clip.onset for clip in clips]) > 3200


def test_mixture_is_the_sum_of_its_sources_at_the_stated_snr(corpus):
    rows = table(corpus / "truth/mixtures.csv")
    category = {row["filename"][:-5]: row["category"] for row in table(corpus / "meta/synthetic.csv")}
    assert {path.stem for path in (corpus / "mixtures").iterdir()} == {row["id"] for row in rows}
    assert Counter(row["fold"] for row in rows) == {"1": 3, "2": 3, "3": 2, "4": 2, "5": 2}
    for row in rows:
        assert row["id"][0] == row["first"][0] == row["second"][0] == row["fold"]
        assert row["labels"] == f"{category[row['first']]} {category[row['second']]}"
        assert category[row["first"]] != category[row["second"]]
        first = float(row["gain_first"]) * read(corpus / f"audio/{row['first']}.flac")[0]
        second = float(row["gain_second"]) * read(corpus / f"audio/{row['second']}.flac")[0]
        mixture, _ = read(corpus / f"mixtures/{row['id']}.flac")
        assert np.abs(mixture - (first + second)).max() <= 0.5 + 1e-6
        assert 10 * np.log10(np.mean(first**2) / np.mean(second**2)) == pytest.approx(float(row["snr_db"]))
        assert -5 <= float(row["snr_db"]) <= 5
        assert float(row["scale"]) == float(row["gain_first"]) <= 1
        assert np.abs(mixture).max() <= 0.95 * 32768 + 1 or float(row["scale"]) == 1
    assert len({row["snr_db"] for row in rows}) == len(rows)


def test_the_same_settings_reuse_the_folder(corpus, monkeypatch):
    monkeypatch.setattr(soundfile, "write", None)
    before = contents(corpus)
    assert make_corpus(corpus, **SMALL) == corpus
    assert contents(corpus) == before


def test_other_settings_in_the_same_folder_are_refused_and_named(corpus):
    with pytest.raises(UsageError) as caught:
        make_corpus(corpus, **{**SMALL, "seconds": 1.5}, seed=7)
    difference = "made with seconds=1.0, seed=0, not with seconds=1.5, seed=7"
    assert str(caught.value) == f"{corpus} was {difference}: name a new folder or remove it."


def test_a_change_of_the_sounds_is_a_change_of_settings(corpus, monkeypatch):
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    with pytest.raises(UsageError, match=r"made with version=\d+, not with version=\d+:"):
        make_corpus(corpus, **SMALL)


@pytest.mark.parametrize("name", ["notes.txt", "settings.json"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="holds no synthetic corpus but other files: name a new folder"):
        make_corpus(tmp_path, **SMALL)
    assert contents(tmp_path) == {Path(name): b"mine"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "corpus").mkdir()
    folder = make_corpus(tmp_path / "corpus", clips_per_class=5, seconds=1, mixtures=0)
    assert json.loads((folder / "settings.json").read_text())["seconds"] == 1.0
    assert table(folder / "truth/mixtures.csv") == []


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    write, written = soundfile.write, []

    def failing(path, *arguments, **options):
        written.append(path)
        if len(written) == 20:
            raise OSError("disk full")
        write(path, *arguments, **options)

    monkeypatch.setattr(soundfile, "write", failing)
    with pytest.raises(OSError, match="disk full"):
        make_corpus(tmp_path / "corpus", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"clips_per_class": 12}, "clips_per_class=12 leaves folds uneven: give a multiple of 5."),
        ({"clips_per_class": 0}, "clips_per_class=0 leaves folds uneven: give a multiple of 5."),
        ({"seconds": 0.5}, "seconds=0.5 is out of range: give a value from 1 to 60."),
        ({"seconds": float("nan")}, "seconds=nan is out of range: give a value from 1 to 60."),
        ({"sample_rate": 8000}, "sample_rate=8000 is out of range: give a value from 16000 to 192000."),
        ({"seed": -1}, "seed=-1 is out of range: give a value from 0 to 4294967295."),
        ({"mixtures": -1}, "mixtures=-1 is out of range: give a value from 0 to 100000."),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, setting, sentence):
    with pytest.raises(UsageError) as caught:
        make_corpus(tmp_path / "corpus", **setting)
    assert str(caught.value) == sentence
    assert list(tmp_path.iterdir()) == []


def test_command_line(corpus, capsys):
    arguments = [str(corpus), "--clips_per_class=5", "--seconds=1", "--mixtures=12"]
    main(arguments)
    assert capsys.readouterr().out == f"{corpus}\n"
    with pytest.raises(UsageError, match="sample_rate=16000, not with sample_rate=22050"):
        main([*arguments, "--sample_rate=22050"])
