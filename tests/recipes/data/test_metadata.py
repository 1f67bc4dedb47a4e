"""Metadata as people's programs write it: each oddity is read for what it means, or told in one sentence."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes.data.metadata import read_corpus

HEADER = "filename,fold,target,category"
THREE = ["a.wav,1,0,dog", "b.wav,2,1,cat", "c.wav,3,0,dog"]


def make_set(folder: Path, lines: list[str], files: tuple[str, ...] = ("a.wav", "b.wav", "c.wav")) -> Path:
    """A data folder whose table has these lines, the header among them."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    (folder / "meta" / "mine.csv").write_bytes("\r\n".join([*lines, ""]).encode())
    for name in files:
        soundfile.write(folder / "audio" / name, np.full(80, 0.5), 8000, format="WAV")
    return folder


def read(folder: Path) -> list[tuple[str, int, str]]:
    return [(clip.id, clip.fold, clip.label) for clip in read_corpus(folder).clips]


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_corpus(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


EXPECTED = [("a", 1, "dog"), ("b", 2, "cat"), ("c", 3, "dog")]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([HEADER, *THREE, ",,,", ",,,"], id="empty rows after the last"),
        pytest.param(["", ",,,", HEADER, THREE[0], "", ",,,", *THREE[1:], " , ,,"], id="empty rows anywhere"),
        pytest.param([HEADER + ",,", *(line + ",," for line in THREE)], id="columns without a name"),
        pytest.param([HEADER, *(line + ",, " for line in THREE)], id="empty fields at a row's end"),
        pytest.param(["\ufeff" + HEADER, *THREE], id="byte order mark"),
        pytest.param([" Filename,FOLD ,Target,category", *THREE], id="columns in capitals and with spaces"),
        pytest.param([HEADER, "a.wav , 1,0 ,dog ", *THREE[1:]], id="spaces around values"),
        pytest.param([HEADER, "a.wav,1.0,0.,dog", "b.wav,2.0,1.0,cat", "c.wav,3,0,dog"], id="whole numbers as floats"),
        pytest.param(
            ["category,x,fold,filename,target", "dog,,1,a.wav,0", "cat,1,2,b.wav,1", "dog,,3,c.wav,0"],
            id="columns in another order",
        ),
        pytest.param(
            ["filename,fold,target,category,Category", *(line + ",x" for line in THREE)],
            id="the exact name before another case",
        ),
    ],
)
def test_what_programs_leave_in_tables_is_read_for_what_it_means(tmp_path, lines):
    assert read(make_set(tmp_path / "set", lines)) == EXPECTED


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([HEADER, "a.wav,1,0,dog", ",,,", "b.wav,2,1"], "too many or too few fields: rows 4."),
        ([HEADER, "a.wav,1,0,dog", "b.wav,,1,cat"], "1 folds that are no integers: '' (b.wav)"),
        ([HEADER, "a.wav,1.5,0,dog"], "1 folds that are no integers: '1.5' (a.wav)"),
        ([HEADER, "a.wav,1e0,0,dog"], "1 folds that are no integers: '1e0' (a.wav)"),
        (["filename,Fold,FOLD,target,category", "a.wav,1,1,0,dog"], "has the columns ['FOLD', 'Fold'] twice"),
        ([HEADER.replace(",", ";"), *(line.replace(",", ";") for line in THREE)], "semicolons between them; save it"),
        ([HEADER.replace(",", "\t"), *(line.replace(",", "\t") for line in THREE)], "tabs between them; save it"),
        ([HEADER, ",,,", " "], "lists no clips"),
        ([HEADER, "a.wav,1,1,dog", "b.wav,1,1.0,cat"], "1 targets with several categories: 1 (cat, dog)"),
        ([HEADER, "A.WAV,1,0,dog"], "1 files that are not in"),
        ([HEADER, "A.WAV,1,0,dog"], "A.WAV (there is a.wav)"),
        ([HEADER, "a.wav,1,0,dog", "a.wav ,2,0,dog"], "1 clips given twice: a"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, lines, sentence):
    assert sentence in refusal(make_set(tmp_path / "set", lines))


@pytest.mark.parametrize(("of_table", "of_file"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_file_names_are_found_in_any_unicode_form(tmp_path, of_table, of_file):
    written, file = (unicodedata.normalize(form, "Käuzchen é.wav") for form in (of_table, of_file))
    folder = make_set(tmp_path / "set", [HEADER, f"{written},1,0,owl"], (file,))
    (clip,) = read_corpus(folder).clips
    assert clip.path == folder / "audio" / file
    assert clip.id == written.removesuffix(".wav")


def test_two_rows_that_mean_one_file_are_refused(tmp_path):
    forms = [unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD")]
    folder = make_set(tmp_path / "set", [HEADER, f"{forms[0]},1,0,owl", f"{forms[1]},2,0,owl"], (forms[0],))
    assert "clips given twice" in refusal(folder)


def test_a_category_in_two_unicode_forms_is_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "Käuzchen") for form in ("NFC", "NFD")]
    folder = make_set(tmp_path / "set", [HEADER, f"a.wav,1,0,{forms[1]}", f"b.wav,2,0,{forms[0]}"], ("a.wav", "b.wav"))
    assert read_corpus(folder).class_names == (forms[0],)


def test_files_that_differ_in_their_suffix_are_two_clips(tmp_path):
    files = ("a.wav", "a.flac", "b.wav")
    folder = make_set(tmp_path / "set", [HEADER, "a.wav,1,0,dog", "a.flac,2,1,cat", "b.wav,3,0,dog"], files)
    clips = read_corpus(folder).clips
    assert [clip.id for clip in clips] == ["a.wav", "a.flac", "b"]
    assert [clip.path.name for clip in clips] == list(files)
    assert [clip.group for clip in clips] == ["a.wav", "a.flac", "b"]


def test_ids_that_would_still_be_one_are_refused(tmp_path):
    files = ("a.wav", "a.flac", "a.wav.wav")
    folder = make_set(tmp_path / "set", [HEADER, *(f"{name},1,0,dog" for name in files)], files)
    assert "clips given twice: a, a.wav" in refusal(folder)


def test_spaces_around_a_recordings_name_do_not_part_its_clips(tmp_path):
    lines = [HEADER + ",src_file", "a.wav,1,0,dog,77", "b.wav,2,1,cat, 77 ", "c.wav,3,0,dog,"]
    clips = read_corpus(make_set(tmp_path / "set", lines)).clips
    assert [clip.group for clip in clips] == ["77", "77", "c"]


def test_litter_in_the_folders_is_no_clip_and_no_table(tmp_path, caplog):
    folder = make_set(tmp_path / "set", [HEADER, *THREE])
    for name in ("._a.wav", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "audio" / name).write_bytes(b"litter")
    for name in ("._mine.csv", "~$mine.csv"):
        (folder / "meta" / name).write_bytes(b"litter")
    (folder / "meta" / "old.csv").mkdir()
    assert read(folder) == EXPECTED
    assert caplog.messages == []


def test_a_table_may_have_its_suffix_in_capitals(tmp_path):
    folder = make_set(tmp_path / "set", [HEADER, *THREE])
    (folder / "meta" / "mine.csv").rename(folder / "meta" / "MINE.CSV")
    assert read(folder) == EXPECTED


def test_links_are_followed_and_links_to_themselves_are_told(tmp_path):
    folder = make_set(tmp_path / "set", [HEADER, *THREE], ("a.wav", "b.wav"))
    (folder / "audio" / "c.wav").symlink_to(folder / "audio" / "a.wav")
    assert read(folder) == EXPECTED
    (folder / "audio" / "c.wav").unlink()
    (folder / "audio" / "c.wav").symlink_to(folder / "audio" / "c.wav")
    assert f"1 files that are not in {folder / 'audio'}: c.wav" in refusal(folder)


def test_a_folder_of_sounds_that_is_a_link_to_itself_is_told(tmp_path):
    folder = make_set(tmp_path / "set", [HEADER, *THREE], ())
    (folder / "audio").rmdir()
    (folder / "audio").symlink_to(folder / "audio")
    assert "cannot be read" in refusal(folder)
