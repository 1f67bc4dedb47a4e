"""Small sets in every layout that is read: what they say, and how each kind of fault in them is told."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes.data.corpus import FoldSplit
from recipes.data.folds import make_folds
from recipes.data.layouts import find_layout
from recipes.data.metadata import read_corpus
from recipes.data.preparation import DataSource, prepare
from recipes.data.splits import cross_validation, fold_split

RATE = 8000


def put_sounds(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(RATE // 10) / RATE
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 + 20 * number) * time), RATE)
    return folder


def put_table(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]))
    return path


def told(folder: Path, **options) -> list[tuple]:
    return [(clip.id, clip.fold, clip.label) for clip in read_corpus(folder, **options).clips]


def refusal(folder: Path, **options) -> str:
    with pytest.raises(UsageError) as caught:
        read_corpus(folder, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


# UrbanSound8K

URBANSOUND_HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"


@pytest.fixture
def urbansound(tmp_path) -> Path:
    """Ten folds of two classes, with the folders and columns of UrbanSound8K."""
    rows, names = [], []
    for fold in range(1, 11):
        for target, label in ((3, "dog_bark"), (9, "street_music")):
            name = f"{fold}00{target}-{target}-0-0.wav"
            names.append(f"audio/fold{fold}/{name}")
            rows.append(f"{name},{fold}00{target},0.5,4.5,1,{fold},{target},{label}")
    put_table(tmp_path / "set/metadata/UrbanSound8K.csv", URBANSOUND_HEADER, rows)
    return put_sounds(tmp_path / "set", names)


def test_urbansound8k_is_read_with_its_folds_and_recordings(urbansound):
    corpus = read_corpus(urbansound)
    assert corpus.name == "UrbanSound8K"
    assert corpus.class_names == ("dog_bark", "street_music")
    assert corpus.folds == tuple(range(1, 11))
    first = corpus.clips[0]
    assert (first.id, first.fold, first.label, first.target, first.group) == ("1003-3-0-0", 1, "dog_bark", 0, "1003")
    assert first.path == urbansound / "audio/fold1/1003-3-0-0.wav"
    assert all(clip.path.is_file() for clip in corpus.clips)


def test_cross_validation_of_urbansound8k_tests_its_ten_folds(urbansound):
    splits = cross_validation(read_corpus(urbansound))
    assert [split.test for split in splits] == [(fold,) for fold in range(1, 11)]
    assert splits[0] == FoldSplit(tuple(range(2, 10)), (10,), (1,))


def test_files_of_one_name_in_several_folds_are_told_apart(tmp_path):
    put_table(
        tmp_path / "metadata/UrbanSound8K.csv", URBANSOUND_HEADER, [f"a.wav,{k},0,4,1,{k},{k},c{k}" for k in (1, 2)]
    )
    put_sounds(tmp_path, ["audio/fold1/a.wav", "audio/fold2/a.wav"])
    clips = read_corpus(tmp_path).clips
    assert [clip.path.parent.name for clip in clips] == ["fold1", "fold2"]
    assert len({clip.id for clip in clips}) == 2


def test_faults_of_urbansound8k_are_told(urbansound):
    (urbansound / "audio/fold3/3003-3-0-0.wav").unlink()
    assert f"1 files that are not in {urbansound / 'audio'}: 3003-3-0-0.wav" in refusal(urbansound)
    table = urbansound / "metadata/UrbanSound8K.csv"
    table.write_text(table.read_text().replace("salience,fold,", "salience,part,"))
    assert f"has no column 'fold': `python -m recipes.folds {table}` adds one" in refusal(urbansound)
    table.unlink()
    assert "must hold exactly one meta/*.csv" in refusal(urbansound)  # fold1, fold2, … are no classes


# a folder a class


def test_a_folder_a_class_named_as_esc10_has_its_folds_and_recordings(tmp_path, caplog):
    names = []
    for label, fold, k in product(("001 - Dog bark", "002 - Rain"), (1, 2, 3), (0, 1)):
        names.append(f"{label}/{fold}-{fold}77{k}-A.ogg")
    corpus = read_corpus(put_sounds(tmp_path / "ESC-10", names))
    assert corpus.name == "ESC-10"
    assert corpus.class_names == ("001 - Dog bark", "002 - Rain")
    assert corpus.folds == (1, 2, 3)
    assert {(clip.fold, clip.group) for clip in corpus.clips} == {(k, f"{k}77{i}") for k in (1, 2, 3) for i in (0, 1)}
    assert caplog.messages == [
        "ESC-10 has no numbered folds: the first number of each file's name is its fold and the second its recording, "
        "as in ESC-50."
    ]


def test_a_folder_a_class_gets_folds_and_says_so(tmp_path, caplog):
    names = [f"{label}/{k}.wav" for label in ("cat", "dog") for k in range(10)]
    folder = put_sounds(tmp_path / "pets", names)
    corpus = read_corpus(folder)
    assert Counter((clip.fold, clip.label) for clip in corpus.clips) == {
        (fold, label): 2 for fold in range(1, 6) for label in ("cat", "dog")
    }
    assert {clip.id for clip in corpus.clips} == {f"{label}-{k}.wav" for label in ("cat", "dog") for k in range(10)}
    assert caplog.messages == [
        "pets has no numbered folds: 5 were made with the classes spread evenly, and each file counts as a recording "
        "of its own."
    ]
    assert read_corpus(folder) == corpus


def test_files_beside_the_classes_folders_are_told(tmp_path, caplog):
    read_corpus(put_sounds(tmp_path, ["a/1.wav", "b/1.wav", "loose.wav", "a/take/deep.wav"]))
    assert "has no row for 2 files, which are left out: a/take/deep.wav, loose.wav." in caplog.text


@pytest.mark.parametrize(
    "names", [["a.wav", "b.wav"], ["dog/a.wav"], ["audio/a.wav"], [f"fold{k}/a.wav" for k in "12"]]
)
def test_folders_that_are_no_classes_are_refused(tmp_path, names):
    assert "must hold exactly one meta/*.csv beside audio/, found: none" in refusal(put_sounds(tmp_path, names))


# audiofolder of Hugging Face


def test_an_audiofolder_of_splits_and_classes_uses_the_recipes_folds(tmp_path, caplog):
    names = [f"train/{label}/{k}.wav" for label in ("cat", "dog") for k in range(6)]
    names += [f"{split}/{label}/9.wav" for split in ("validation", "test") for label in ("cat", "dog")]
    corpus = read_corpus(put_sounds(tmp_path / "hub", names))
    assert Counter((clip.fold, clip.label) for clip in corpus.clips) == {
        (fold, label): 2 if fold < 4 else 1 for fold in range(1, 6) for label in ("cat", "dog")
    }
    assert {clip.path.parts[-3] for clip in corpus.clips if clip.fold < 4} == {"train"}
    assert {clip.path.parts[-3] for clip in corpus.clips if clip.fold == 5} == {"test"}
    assert "its training split is folds 1 to 3, validation is fold 4 and the test split fold 5" in caplog.text
    fold_split(corpus, [1, 2, 3], [4], [5])


@pytest.mark.parametrize("one_table", [True, False])
def test_an_audiofolder_with_metadata(tmp_path, one_table):
    names = {split: [f"{split}/{k}.wav" for k in range(4)] for split in ("train", "test")}
    put_sounds(tmp_path, [*names["train"], *names["test"]])
    label = ("cat", "dog")
    if one_table:
        rows = [f"{name},{label[k % 2]}" for part in names.values() for k, name in enumerate(part)]
        put_table(tmp_path / "metadata.csv", "file_name,label", rows)
    else:
        for split in names:
            put_table(
                tmp_path / split / "metadata.csv", "file_name,label", [f"{k}.wav,{label[k % 2]}" for k in range(4)]
            )
    corpus = read_corpus(tmp_path)
    assert corpus.name == tmp_path.name
    assert corpus.class_names == ("cat", "dog")
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in corpus.clips if clip.fold == 5] == names["test"]
    assert {clip.fold for clip in corpus.clips if clip.path.parent.name == "train"} <= {1, 2, 3, 4}


def test_an_audiofolder_without_splits_needs_folds(tmp_path):
    put_sounds(tmp_path, ["data/a.wav", "data/b.wav"])
    table = put_table(tmp_path / "metadata.csv", "file_name,label", ["data/a.wav,cat", "data/b.wav,dog"])
    assert f"has no column 'fold': `python -m recipes.folds {table}` adds one" in refusal(tmp_path)


# any table


def test_columns_are_named_and_targets_numbered_by_name(tmp_path):
    put_sounds(tmp_path, ["wav/a.wav", "wav/b.wav", "wav/c.wav"])
    rows = ["wav/a.wav,zebra,2,x", "wav/b.wav,ant,1,y", "wav/c.wav,zebra,3,x"]
    put_table(tmp_path / "list.csv", "path,label,part,session", rows)
    columns = {"filename": "path", "category": "label", "fold": "part", "src_file": "session"}
    corpus = read_corpus(tmp_path, columns=columns)
    assert corpus.class_names == ("ant", "zebra")
    assert [(clip.id, clip.fold, clip.target, clip.group) for clip in corpus.clips] == [
        ("a", 2, 1, "x"), ("b", 1, 0, "y"), ("c", 3, 1, "x"),
    ]  # fmt: skip


def test_folds_may_be_splits_by_name(tmp_path, caplog):
    put_sounds(tmp_path, ["audio/a.wav", "audio/b.wav", "audio/c.wav"])
    rows = ["a.wav,Train,0,dog", "b.wav,dev,1,cat", "c.wav,test,0,dog"]
    put_table(tmp_path / "meta/mine.csv", "filename,fold,target,category", rows)
    assert [(name, fold > 3) for name, fold, _ in told(tmp_path)] == [("a", False), ("b", True), ("c", True)]
    assert "its training split is folds 1 to 3" in caplog.text


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"file": "path"}, "columns names file: choose from filename, fold, target, category, src_file, esc10"),
        ({"filename": "wave"}, "lacks the columns ['wave', 'category']: it has ['path', 'label', 'fold']"),
        ({"filename": "path"}, "lacks the columns ['category']"),
        ({"filename": "path", "category": "label", "fold": "part"}, "has no column 'part': `python -m recipes.folds"),
    ],
)
def test_columns_that_are_not_there_are_told(tmp_path, columns, sentence):
    put_sounds(tmp_path, ["a.wav"])
    put_table(tmp_path / "list.csv", "path,label,fold", ["a.wav,dog,1"])
    assert sentence in refusal(tmp_path, columns=columns)


@pytest.mark.parametrize("name", ["../a.wav", "/etc/passwd", "a/../../b.wav", "..\\a.wav", "a//b.wav", "./a.wav"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    put_sounds(tmp_path, ["audio/a.wav"])
    put_table(tmp_path / "meta/x.csv", "filename,fold,target,category", [f"{name},1,0,dog"])
    assert "lead to another folder" in refusal(tmp_path)


def test_links_between_folders_do_not_lead_round(tmp_path):
    put_sounds(tmp_path, ["a/1.wav", "b/1.wav"])
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    files = find_layout(tmp_path).files
    assert files == ("a/1.wav", "b/1.wav", "c/1.wav")


# made folds


def test_made_folds_keep_recordings_together_and_do_not_depend_on_the_order():
    recordings = [f"r{k // 3}" for k in range(60)]
    labels = ["cat" if k < 30 else "dog" for k in range(60)]
    folds = make_folds(recordings, labels)
    assert len(set(zip(recordings, folds, strict=True))) == 20
    assert Counter(zip(folds, labels, strict=True)) == {(k, label): 6 for k in range(1, 6) for label in ("cat", "dog")}
    assert make_folds(recordings[::-1], labels[::-1]) == folds[::-1]


def test_splits_become_the_folds_of_the_recipes(tmp_path, caplog):
    names = [f"{split}/{label}/{k}.wav" for split, label, k in product(("train", "test"), ("cat", "dog"), range(4))]
    clips = read_corpus(put_sounds(tmp_path, names)).clips
    folds = Counter(clip.fold for clip in clips)
    assert folds == {1: 2, 2: 2, 3: 2, 4: 2, 5: 8}
    assert "its training split is folds 1 to 4" in caplog.text


# annotated events


@pytest.fixture
def annotated(tmp_path) -> Path:
    """Two clips of 0.1 s, of which the first has two events."""
    put_sounds(tmp_path, ["audio/a.wav", "audio/b.wav"])
    put_table(tmp_path / "meta/x.csv", "filename,fold,target,category", ["a.wav,1,0,dog", "b.wav,2,1,cat"])
    rows = ["a.wav,0.06,0.07,dog", "a.wav,0.01,0.02,dog", "a.wav,0.0,0.1,cat"]
    put_table(tmp_path / "events.csv", "filename,start,end,label", rows)
    return tmp_path


def test_events_are_the_clips_ground_truth_in_time(annotated):
    store = prepare(DataSource(annotated), annotated / "cache", RATE, 0.1)
    assert [(event.start, event.end) for event in store.corpus.clips[0].events] == [(0.01, 0.02), (0.06, 0.07)]
    assert store.knows_events
    waveform, event = store.waveform(0), store.event(0)
    assert np.array_equal(event[80:160], waveform[80:160])
    assert np.array_equal(event[480:560], waveform[480:560])
    assert not event[:80].any()
    assert not event[160:480].any()
    assert not event[560:].any()
    assert np.array_equal(store.event(1), store.waveform(1))


def test_a_set_without_events_knows_none(annotated):
    (annotated / "events.csv").unlink()
    assert not prepare(DataSource(annotated), annotated / "cache", RATE, 0.1).knows_events


def test_events_may_be_named_as_in_desed(annotated):
    put_table(annotated / "events.csv", "filename,onset,offset,event_label", ["b.wav,0.0,0.05,cat"])
    clips = read_corpus(annotated).clips
    assert [len(clip.events) for clip in clips] == [0, 1]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("a.wav,0.5,0.5,dog", "1 events that do not end after they start: a.wav (0.5 to 0.5)"),
        ("a.wav,-1,2,dog", "a.wav (-1 to 2)"),
        ("a.wav,0,nan,dog", "a.wav (0 to nan)"),
        ("a.wav,0,soon,dog", "a.wav (0 to soon)"),
        ("gone.wav,0,1,dog", "1 events of clips that the metadata lacks: gone.wav"),
        ("a.wav,0,1,cow", "1 events with a label that no clip has: cow"),
    ],
)
def test_events_that_cannot_be_are_told(annotated, row, sentence):
    put_table(annotated / "events.csv", "filename,start,end,label", [row])
    assert sentence in refusal(annotated)


def test_an_event_beyond_the_clip_ends_with_it(annotated):
    put_table(annotated / "events.csv", "filename,start,end,label", ["a.wav,0.05,9,dog", "b.wav,7,9,cat"])
    store = prepare(DataSource(annotated), annotated / "cache", RATE, 0.1)
    assert np.array_equal(store.event(0)[400:], store.waveform(0)[400:])
    assert not store.event(1).any()


def test_changed_events_have_another_hash(annotated):
    before = read_corpus(annotated)
    assert read_corpus(annotated).events_hash == before.events_hash
    put_table(annotated / "events.csv", "filename,start,end,label", ["a.wav,0.01,0.03,dog"])
    after = read_corpus(annotated)
    assert after.has_events
    assert after.events_hash != before.events_hash
