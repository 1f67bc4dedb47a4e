"""The guard against testing on what was trained on: clips are compared by content and recording."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from recipe_files import TINY
from tones import RATE, SMALL, Tones, read

from models.errors import UsageError
from tests.helpers import refusal


def refused_as_seen(modulation, tones: Tones) -> str:
    folds = ("--test_folds=[1]", "--train_folds=[5]", "--valid_folds=[4]")
    return refusal(modulation, f"--data_folder={tones.folder}", *folds)


def test_a_trained_clip_is_found_in_any_order_and_among_any_others(modulation, mine, trained):
    tones, _ = mine
    rows = tones.rows()
    told = f"{trained / 'classifier'} was trained on fold 1, which is a test fold here: choose other test_folds"
    assert refused_as_seen(modulation, tones) == told
    tones.rewrite(rows[::-1])
    told = refused_as_seen(modulation, tones)
    assert told == (
        f"{trained / 'classifier'} was trained on 6 of the 6 test clips here, or on other clips of their recordings: "
        "1-high-1, 1-high-0, 1-mid-1 and 3 more; choose other test_folds, or leave these clips out"
    )
    # all but one of the fold's clips go to another fold, and a clip of the set is left out
    moved = [row | ({"fold": "2"} if row["fold"] == "1" and row["filename"] != "1-mid-0.wav" else {}) for row in rows]
    tones.rewrite(moved[:-1])
    assert "was trained on 1 of the 1 test clips here, or on other clips of their recordings: 1-mid-0" in (
        refused_as_seen(modulation, tones)
    )


def test_a_trained_interpreter_keeps_what_it_and_its_start_have_seen(explained, interpret, trained, tones, tmp_path):
    seen = read(explained / "interpreter/bundle.json")["source"]["clips"]
    assert {part: len(seen[part]["content"]) for part in seen} == {"train": 18, "valid": 6}
    assert "clips" not in read(explained / "metrics.json")["classifier"]


def test_recordings_are_compared_where_the_corpus_tells_them(train, modulation, mine, trained, tmp_path, interpret):
    tones, _ = mine
    # both takes of a class are of one recording, by the table
    rows = [row | {"src_file": row["filename"][:-6]} for row in tones.rows()]
    tones.rewrite(rows)
    run = train(TINY, tmp_path / "recorded", *SMALL, f"--data_folder={tones.folder}", "--debug", "--debug_epochs=1")
    # another take of a trained recording comes as a new clip in the test fold
    sound = np.sin(np.arange(RATE // 2) / 3) / 2
    soundfile.write(tones.folder / "audio/5-new.wav", sound, RATE)
    new = {"filename": "5-new.wav", "fold": "5", "target": "0", "category": "low", "src_file": "1-low"}
    kept = [row for row in rows if not row["filename"].startswith("1-low")]
    tones.rewrite([*kept, new])
    told = refusal(modulation, f"--data_folder={tones.folder}", f"--classifier={run / 'classifier'}")
    assert "was trained on 1 of the 7 test clips here, or on other clips of their recordings: 5-new" in told


def test_an_older_bundle_tells_what_it_told_before(modulation, mine, trained, tmp_path):
    tones, _ = mine
    shutil.copytree(trained / "classifier", tmp_path / "older")
    bundle = read(tmp_path / "older/bundle.json")
    del bundle["source"]["clips"]
    (tmp_path / "older/bundle.json").write_text(json.dumps(bundle))
    folds = ("--test_folds=[1]", "--train_folds=[5]", "--valid_folds=[4]", f"--classifier={tmp_path / 'older'}")
    with pytest.raises(UsageError, match="was trained on fold 1, which is a test fold here"):
        modulation(f"--data_folder={tones.folder}", *folds)


def test_a_trained_clip_in_another_format_and_under_another_name_is_found(modulation, mine, trained):
    tones, _ = mine
    rows = []
    for number, row in enumerate(tones.rows()):
        samples, rate = soundfile.read(tones.folder / "audio" / row["filename"], dtype="int16")
        soundfile.write(tones.folder / f"audio/{number}.flac", samples, rate)
        rows.append(row | {"filename": f"{number}.flac"})
    tones.rewrite(rows)
    told = refused_as_seen(modulation, tones)
    assert f"{trained / 'classifier'} was trained on 6 of the 6 test clips here" in told


def test_silence_is_alike_everywhere_and_tells_nothing(modulation, mine, train, tones, tmp_path):
    mine_tones, _ = mine
    soundfile.write(mine_tones.folder / "audio/1-low-0.wav", np.zeros(RATE // 2), RATE)
    changes = (f"--data_folder={mine_tones.folder}", "--debug", "--debug_epochs=1")
    run = train(TINY, tmp_path / "silent", *SMALL, *changes)
    # silence in another file: a byte more at its end makes its content another
    soundfile.write(mine_tones.folder / "audio/5-low-0.wav", np.zeros(RATE // 2 + 1), RATE)
    given = (f"--data_folder={mine_tones.folder}", f"--classifier={run / 'classifier'}")
    assert modulation(*given).is_dir()
