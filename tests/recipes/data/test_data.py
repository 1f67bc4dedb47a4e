"""Sound files, metadata and folds, and the way from a data folder to a batch."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from models.errors import UsageError
from recipes.data import preparation
from recipes.data.audio import fit_length, load_mono, peak_normalize, read_audio, resample, to_mono, write_wav
from recipes.data.clips import ClipDataset, collate
from recipes.data.corpus import FoldSplit, indices
from recipes.data.metadata import read_corpus
from recipes.data.preparation import DataSource, find_data, prepare, warn_of_copies
from recipes.data.splits import cross_validation, fold_split
from recipes.runs.facts import write_manifest

RATE = 16000
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def tone(frequency: float, rate: int, seconds: float, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def row(name: str, fold=1, target=0, category="dog", esc10="True", source=None) -> tuple:
    return (name, fold, target, category, esc10, source or Path(name).stem, "A")


def make_set(folder: Path, rows: list[tuple], columns=COLUMNS, encoding="utf-8", newline="\n") -> Path:
    """A data folder with a short tone per row, at 8 kHz."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    with (folder / "meta" / "mine.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=newline)
        writer.writerow(columns)
        writer.writerows(rows)
    for number, (name, *_) in enumerate(rows):
        if "/" not in name and name:
            soundfile.write(folder / "audio" / name, tone(200 + 50 * number, 8000, 0.1), 8000)
    return folder


FIVE_FOLDS = [
    row(f"{fold}-{target}.wav", fold, target, name)
    for fold in range(1, 6)
    for target, name in ((30, "siren"), (7, "hen"))
]


# --- sound files ---


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_read_audio_keeps_channels_and_rate(tmp_path, suffix):
    stereo = np.stack([tone(440, 22050, 0.2), np.zeros(4410, np.float32)], axis=1)
    soundfile.write(tmp_path / f"a.{suffix}", stereo, 22050)
    audio = read_audio(tmp_path / f"a.{suffix}")
    assert audio.sample_rate == 22050
    assert audio.waveform.shape == (2, 4410)
    assert audio.waveform.dtype == np.float32
    assert np.abs(audio.waveform[0]).max() == pytest.approx(0.5, abs=0.02)
    assert np.abs(audio.waveform[1]).max() < 0.01


def test_unusable_files_are_refused_by_name(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan], np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "inf.wav", np.array([0.1, np.inf], np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(tmp_path / "slow.wav", np.zeros(9, np.float32), 1)
    soundfile.write(tmp_path / "whole.flac", tone(440, RATE, 1), RATE)
    cut = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "headerless.raw").write_bytes(bytes(100))
    for name, reason in {
        "nan.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite",
        "empty.wav": "no samples",
        "slow.wav": "1 Hz",
        "cut.flac": "cut off|cannot be decoded",
        "text.wav": "cannot be decoded",
        "headerless.raw": "cannot be decoded",
        "absent.wav": "does not exist",
    }.items():
        with pytest.raises(UsageError, match=f"{name}.*({reason})"):
            read_audio(tmp_path / name)


def test_to_mono_is_the_mean_over_channels():
    mono = to_mono(np.array([[1.0, 0.0], [0.0, -0.5]], np.float32))
    assert mono.tolist() == [0.5, -0.25]
    assert mono.dtype == np.float32


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (8000, 16000), (48000, 16000), (11025, 16000)])
def test_resampling_keeps_a_tone_in_place_to_minus_100_db(from_rate, to_rate):
    frequency = 0.4 * min(from_rate, to_rate)
    result = resample(tone(frequency, from_rate, 1.0), from_rate, to_rate)
    expected = tone(frequency, to_rate, 1.0)
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    inside = slice(to_rate // 8, -to_rate // 8)
    assert np.abs(result - expected)[inside].max() < 1e-5


def test_resampling_does_not_alias():
    assert np.abs(resample(tone(9000, 44100, 1.0), 44100, RATE))[2000:-2000].max() < 1e-5


def test_resampling_at_rates_without_a_common_factor():
    result = resample(tone(100, 1009, 2.0), 1009, 1000)
    assert len(result) == 2000
    assert np.abs(result - tone(100, 1000, 2.0))[200:-200].max() < 1e-5
    assert len(resample(np.zeros(1, np.float32), 1009, 1000)) == 1  # ceil(1000 / 1009)
    assert len(resample(np.zeros(3, np.float32), 1000, 1009)) == 4  # ceil(3 * 1009 / 1000)


def test_fit_length_pads_the_end_and_keeps_the_start():
    waveform = np.array([1, 2, 3], np.float32)
    assert fit_length(waveform, 5).tolist() == [1, 2, 3, 0, 0]
    assert fit_length(waveform, 3).tolist() == [1, 2, 3]
    assert fit_length(waveform, 2).tolist() == [1, 2]


def test_peak_normalize_uses_the_absolute_peak_and_leaves_silence():
    assert peak_normalize(np.array([0.1, -0.5, 0.25], np.float32)).tolist() == pytest.approx([0.2, -1.0, 0.5])
    assert peak_normalize(np.zeros(4, np.float32)).tolist() == [0, 0, 0, 0]
    whisper = np.array([5e-5, -9e-5], np.float32)
    assert np.array_equal(peak_normalize(whisper), whisper)
    batch = peak_normalize(np.array([[0.5, 0.0], [0.0, 0.0]], np.float32))
    assert batch.tolist() == [[1, 0], [0, 0]]
    assert batch.dtype == np.float32


def test_write_wav_clips_and_never_wraps(tmp_path):
    write_wav(tmp_path / "media" / "a.wav", np.array([0.0, 0.5, 1.0, 1.5, -1.0, -7.0]), 8000)
    samples, rate = soundfile.read(tmp_path / "media" / "a.wav", dtype="int16")
    assert rate == 8000
    assert samples.tolist() == [0, 16384, 32767, 32767, -32767, -32767]
    assert soundfile.info(tmp_path / "media" / "a.wav").subtype == "PCM_16"
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["a.wav"]
    for bad in (np.array([0.0, np.nan]), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"finite samples of shape \[samples\]"):
            write_wav(tmp_path / "b.wav", bad, 8000)


def test_load_mono_keeps_the_length_of_a_single_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(440, 8000, 0.3)] * 2, axis=1), 8000, subtype="FLOAT")
    waveform = load_mono(tmp_path / "a.wav", RATE)
    assert waveform.shape == (4800,)
    assert np.abs(waveform[800:-800] - tone(440, RATE, 0.3)[800:-800]).max() < 1e-5


# --- metadata ---


def test_class_index_is_the_rank_of_the_official_target(tmp_path):
    corpus = read_corpus(make_set(tmp_path / "set", FIVE_FOLDS))
    assert corpus.name == "mine"
    assert corpus.class_names == ("hen", "siren")
    assert [clip.target for clip in corpus.clips[:2]] == [1, 0]
    clip = corpus.clips[0]
    assert (clip.id, clip.fold, clip.label, clip.group) == ("1-30", 1, "siren", "1-30")
    assert clip.path == tmp_path / "set" / "audio" / "1-30.wav"


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\r\n"), ("utf-8", "\r\n"), ("utf-8", "\n")])
def test_tables_from_spreadsheets_and_foreign_names_are_read(tmp_path, encoding, newline):
    rows = [row("Käuzchen 鳥.wav", 1, 0, "bird"), row("b.wav", 2, 1, "cat")]
    corpus = read_corpus(make_set(tmp_path / "set", rows, encoding=encoding, newline=newline))
    assert [clip.id for clip in corpus.clips] == ["Käuzchen 鳥", "b"]


def test_extra_columns_are_ignored_and_src_file_is_optional(tmp_path):
    columns = ("filename", "fsID", "start", "salience", "fold", "target", "category")
    rows = [("100032-3-0-0.wav", 100032, 0.0, 1, 5, 3, "dog_bark")]
    (clip,) = read_corpus(make_set(tmp_path / "set", rows, columns)).clips
    assert (clip.fold, clip.target, clip.label, clip.group) == (5, 0, "dog_bark", "100032-3-0-0")


def test_esc10_has_its_own_ranks(tmp_path):
    rows = [
        row("a.wav", 1, 40, "helicopter"),
        row("b.wav", 1, 2, "pig", esc10="False"),
        row("c.wav", 2, 10, "rain"),
    ]
    folder = make_set(tmp_path / "set", rows)
    corpus = read_corpus(folder, subset="esc10")
    assert corpus.name == "esc10"
    assert corpus.class_names == ("rain", "helicopter")
    assert [clip.id for clip in corpus.clips] == ["a", "c"]
    with pytest.raises(UsageError, match=r"'esc5'.*esc10"):
        read_corpus(folder, subset="esc5")


def test_all_faults_of_a_table_are_named_at_once(tmp_path):
    rows = [
        row("a.wav", 1, 0, "dog"),
        row("b.wav", "one", 0, "hen"),
        row("c.wav", 1, "x", "cat"),
        row("d.wav", 1, 5, "pig"),
        row("e.wav", 1, 6, "pig"),
        row("../evil.wav", 1, 7, "cow"),
        row("twice.wav", 1, 8, "frog"),
        row("twice.wav", 2, 8, "frog"),
        row("gone.wav", 1, 9, "crow"),
        row("also gone.wav", 1, 9, "crow"),
        row("blank.wav", 1, 10, " "),
    ]
    folder = make_set(tmp_path / "set", rows)
    (folder / "audio" / "gone.wav").unlink()
    (folder / "audio" / "also gone.wav").unlink()
    with pytest.raises(UsageError) as caught:
        read_corpus(folder)
    for fault in (
        "1 file names that are empty or lead to another folder: '../evil.wav'",
        "1 clips given twice: twice",
        "1 folds that are no integers: 'one' (b.wav)",
        "1 targets that are no integers: 'x' (c.wav)",
        "1 targets with several categories: 0 (dog, hen)",
        "1 categories with several targets: pig (5, 6)",
        "1 clips without a category: blank.wav",
        f"2 files that are not in {folder / 'audio'}: also gone.wav, gone.wav",
    ):
        assert fault in str(caught.value)


def test_many_missing_files_are_counted_and_some_named(tmp_path):
    folder = make_set(tmp_path / "set", [row(f"{i:02}.wav") for i in range(30)])
    for path in (folder / "audio").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"30 files .*00\.wav, 01\.wav.* and 10 more"):
        read_corpus(folder)


def test_tables_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"exactly one meta/.*found: none"):
        read_corpus(tmp_path)
    table = tmp_path / "meta" / "a.csv"
    table.parent.mkdir()
    for content, sentence in {
        b"": r"lacks the columns \['filename', 'fold', 'category'\]",
        b"filename,fold,target\n": r"lacks the columns \['category'\]: it has \['filename'",
        b"filename,fold,target,category\n": "lists no clips",
        b"filename,fold,target,category\na.wav,1,0\n": "too few fields: rows 2",
        b"filename,fold,target,category\na.wav,1,0,dog,x\n": "too few fields: rows 2",
        b"filename,fold,target,category\n\xff.wav,1,0,dog\n": "UTF-8",
    }.items():
        table.write_bytes(content)
        with pytest.raises(UsageError, match=sentence):
            read_corpus(tmp_path)
    (tmp_path / "meta" / "b.csv").write_text("")
    with pytest.raises(UsageError, match=r"found: a\.csv, b\.csv"):
        read_corpus(tmp_path)


# --- folds ---


@pytest.fixture
def corpus(tmp_path):
    return read_corpus(make_set(tmp_path / "five", FIVE_FOLDS))


def test_fold_split_and_indices(corpus):
    split = fold_split(corpus, [1, 2, 3], [4], [5])
    assert split == FoldSplit((1, 2, 3), (4,), (5,))
    assert indices(corpus, split.train) == [0, 1, 2, 3, 4, 5]
    assert indices(corpus, split.test) == [8, 9]


@pytest.mark.parametrize(
    ("folds", "sentence"),
    [
        (([1, 2], [2], [3]), r"train_folds and valid_folds share the folds \[2\]"),
        (([1, 2], [3], [1, 4]), r"train_folds and test_folds share the folds \[1\]"),
        (([1], [4], [4]), r"valid_folds and test_folds share the folds \[4\]"),
        (([1], [], [4]), r"valid_folds is \[\]: give a list of folds out of \[1, 2, 3, 4, 5\]"),
        (([1], 2, [4]), "valid_folds is 2: give a list"),
        (([1, 6], [2], [4]), r"train_folds names \[6\], which mine lacks: choose from \[1, 2, 3, 4, 5\]"),
        ((["1"], [2], [4]), r"train_folds names \['1'\]"),
        (([True], [2], [4]), r"train_folds names \[True\]"),
    ],
)
def test_bad_folds_are_refused(corpus, folds, sentence):
    with pytest.raises(UsageError, match=sentence):
        fold_split(corpus, *folds)


def test_cross_validation_tests_each_fold_once(corpus):
    assert cross_validation(corpus) == (
        FoldSplit((2, 3, 4), (5,), (1,)),
        FoldSplit((3, 4, 5), (1,), (2,)),
        FoldSplit((1, 4, 5), (2,), (3,)),
        FoldSplit((1, 2, 5), (3,), (4,)),
        FoldSplit((1, 2, 3), (4,), (5,)),
    )


def test_cross_validation_needs_three_folds(tmp_path):
    two = read_corpus(make_set(tmp_path / "two", [row("a.wav", 1), row("b.wav", 10)]))
    with pytest.raises(UsageError, match=r"folds \[1, 10\].*three"):
        cross_validation(two)


def test_a_recording_in_two_splits_is_refused_unless_its_labels_differ(tmp_path):
    rows = [
        row("a.wav", 1, 0, "dog", source="77"),
        row("b.wav", 2, 1, "hen", source="88"),
        row("c.wav", 3, 0, "dog", source="77"),
        row("d.wav", 3, 0, "dog", source="88"),
    ]
    corpus = read_corpus(make_set(tmp_path / "leak", rows))
    with pytest.raises(UsageError, match=r"1 recordings.*: 77 \(dog\); keep"):
        fold_split(corpus, [1], [2], [3])
    with pytest.raises(UsageError, match="77"):
        cross_validation(corpus)


# --- from a folder to a batch ---


def test_prepare_gives_peak_normalised_clips_of_one_length(tmp_path):
    folder = make_set(tmp_path / "set", [row("short.wav", 1), row("long.flac", 2), row("silent.ogg", 3)])
    soundfile.write(folder / "audio" / "long.flac", -tone(1000, 44100, 0.5, peak=0.25), 44100)
    soundfile.write(folder / "audio" / "silent.ogg", np.zeros((4800, 2), np.float32), 48000)
    store = prepare(folder, tmp_path / "cache", clip_seconds=0.25)
    assert (len(store), store.sample_rate, store.num_samples) == (3, 16000, 4000)
    short, long, silent = (store.waveform(i) for i in range(3))
    assert short.dtype == np.float32
    assert np.abs(short).max() == 1
    assert np.all(short[1600:] == 0)
    assert np.abs(long).max() == 1
    assert np.abs(long[200:-200] + tone(1000, RATE, 0.25, peak=1)[200:-200]).max() < 5e-3
    assert np.all(silent == 0)


def test_a_store_depends_on_content_and_settings_only(tmp_path):
    make_set(tmp_path / "here", FIVE_FOLDS)
    make_set(tmp_path / "there", [(name, 9 - fold, *rest) for name, fold, *rest in FIVE_FOLDS])
    here, there, longer, slower = (
        prepare(tmp_path / folder, tmp_path / "cache", rate, seconds)
        for folder, rate, seconds in (
            ("here", 16000, 0.1), ("there", 16000, 0.1), ("here", 16000, 0.2), ("here", 8000, 0.1),
        )
    )  # fmt: skip
    assert here.content_hash == there.content_hash
    assert len({here.content_hash, longer.content_hash, slower.content_hash}) == 3


def test_clips_with_nan_are_refused_by_name(tmp_path):
    folder = make_set(tmp_path / "set", FIVE_FOLDS)
    for name in ("2-30.wav", "4-7.wav"):
        soundfile.write(folder / "audio" / name, np.full(9, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(UsageError, match=r"2 of 10 files cannot be used.*2-30\.wav holds NaN.*4-7\.wav holds NaN"):
        prepare(folder, tmp_path / "cache")


def test_batches_carry_corpus_positions(tmp_path):
    store = prepare(make_set(tmp_path / "set", FIVE_FOLDS), tmp_path / "cache", clip_seconds=0.1)
    dataset = ClipDataset(store, indices(store.corpus, [2, 5]))
    first, second = DataLoader(dataset, batch_size=3, collate_fn=collate)
    assert (len(dataset), len(first), len(second)) == (4, 3, 1)
    assert first.waveform.shape == (3, 1600)
    assert first.waveform.dtype == torch.float32
    assert first.label.tolist() == [1, 0, 1]
    assert first.label.dtype == torch.long
    assert first.index.tolist() == [2, 3, 8]
    assert torch.equal(first.waveform[2], torch.from_numpy(store.waveform(8)))
    moved = first.to("meta")
    assert {moved.waveform.device.type, moved.label.device.type, moved.index.device.type} == {"meta"}


def test_a_pickled_store_holds_no_samples(tmp_path):
    store = prepare(make_set(tmp_path / "set", FIVE_FOLDS), tmp_path / "cache", clip_seconds=5.0)
    expected = store.waveform(3)
    data = pickle.dumps(store)
    assert len(data) < 10_000
    assert np.array_equal(pickle.loads(data).waveform(3), expected)


def test_prepare_refuses_settings(tmp_path):
    folder = make_set(tmp_path / "set", FIVE_FOLDS)
    for rate, seconds in ((0, 5.0), (16000, 0.0), (16000.5, 1.0), (16000, -1.0)):
        with pytest.raises(UsageError, match="positive whole rate and a positive length"):
            prepare(folder, tmp_path / "cache", rate, seconds)


@pytest.fixture
def downloads(monkeypatch):
    """The folders into which ESC-50 was to be downloaded; nothing is."""
    folders = []
    monkeypatch.setattr(preparation, "download_esc50", folders.append)
    return folders


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path, downloads):
    with pytest.raises(UsageError, match=r"data_folder=.*absent is not there.*pass --download, or make the folder"):
        prepare(tmp_path / "absent", tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
    assert downloads == []


def test_a_download_goes_into_an_empty_folder_or_where_it_is_asked_for(tmp_path, downloads):
    (tmp_path / "empty").mkdir()
    find_data(DataSource(tmp_path / "empty"))
    find_data(DataSource(tmp_path / "absent", download=True))
    assert downloads == [tmp_path / "empty", tmp_path / "absent"]


def test_a_folder_with_data_is_never_downloaded_into(tmp_path, downloads):
    folder = make_set(tmp_path / "set", FIVE_FOLDS)
    find_data(DataSource(folder, download=True))
    (tmp_path / "file").write_text("")
    find_data(DataSource(tmp_path / "file", download=True))
    assert downloads == []


def test_one_file_under_two_names_in_two_parts_is_told(tmp_path, caplog):
    folder = make_set(tmp_path / "set", FIVE_FOLDS)
    for copy in ("3-7.wav", "5-30.wav"):
        (folder / "audio" / copy).write_bytes((folder / "audio" / "1-7.wav").read_bytes())
    store = prepare(folder, tmp_path / "cache", clip_seconds=0.1)
    caplog.clear()
    warn_of_copies(store, [FoldSplit((1, 3), (2,), (4,))])
    assert caplog.messages == []
    warn_of_copies(store, [FoldSplit((1, 2, 3), (4,), (5,))])
    assert caplog.messages == [
        "1 sounds of mine are the same file under several names, in several of train, valid and test: 1-7 = 3-7 = 5-30."
    ]


def test_manifest(tmp_path):
    store = prepare(make_set(tmp_path / "set", FIVE_FOLDS), tmp_path / "cache", clip_seconds=0.1)
    write_manifest(tmp_path / "run" / "manifest.csv", store, FoldSplit((1, 2), (4,), (5,)))
    with (tmp_path / "run" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "path", "fold", "label", "target", "recording", "split"]
    groups = {clip.id: clip.group for clip in store.corpus.clips}
    assert all(row["recording"] == groups[row["id"]] for row in rows)
    assert [(r["id"], r["split"]) for r in rows[3:6]] == [
        ("2-7", "train"),
        ("4-30", "valid"),
        ("4-7", "valid"),
    ]
    assert rows[0]["path"] == str(tmp_path / "set" / "audio" / "1-30.wav")
    assert (rows[0]["label"], rows[0]["target"]) == ("siren", "1")
    assert len(rows) == 8
