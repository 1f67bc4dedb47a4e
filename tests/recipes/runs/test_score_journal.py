"""Scoring that was stopped goes on behind the last batch it wrote down, and gives the same scores."""

import json
import shutil
from pathlib import Path

import pytest
from tones import LMAC, LMAC_SMALL

from recipes.runs.results import read_rows
from recipes.scoring.journal import ScoredBatch, ScoreJournal
from recipes.system.interruption import Interrupted
from recipes.training.interpreter_brain import InterpreterBrain
from tools.processes import TINY
from tools.runner import ROOT

MODULATION = ROOT / "hparams" / "modulation.yaml"
OPTIONS = ("--quantile=[0.5,0.9]", "--report_clips=0", "--eval_batch_size=4", "--contamination=[clean,mixture]")
BATCHES = 5  # of 20 test clips


@pytest.fixture(scope="module")
def classifier(train, tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("classifier")) / "classifier"


@pytest.fixture
def scored(monkeypatch):
    """The clips of the batches that are scored, in their order; `stop_at` ends the process before one of them."""
    numbers: list[int] = []
    score = InterpreterBrain._scores

    def count(brain, batch):
        if numbers and len(numbers) == scored_until[0]:
            raise Interrupted(15)
        numbers.append(batch.index.tolist())
        return score(brain, batch)

    scored_until = [-1]
    monkeypatch.setattr(InterpreterBrain, "_scores", count)
    return numbers, scored_until


def test_stopped_scoring_goes_on_behind_its_last_batch(interpret, classifier, scored, tmp_path, capsys):
    batches, stop_after = scored
    whole = interpret(MODULATION, tmp_path / "whole", f"--classifier={classifier}", *OPTIONS)
    assert len(batches) == 2 * BATCHES
    batches.clear()
    stop_after[0] = BATCHES + 3
    with pytest.raises(Interrupted):
        interpret(MODULATION, tmp_path / "stopped", f"--classifier={classifier}", *OPTIONS)
    assert len(list((tmp_path / "stopped").rglob("scoring-0.jsonl"))) == 2
    missing = batches[3:BATCHES]
    batches.clear()
    stop_after[0] = -1
    capsys.readouterr()
    rerun = interpret(MODULATION, tmp_path / "stopped", f"--classifier={classifier}", *OPTIONS)
    assert "score mixture: 3 of 5 batches were scored before" in capsys.readouterr().out
    assert batches == missing
    for name in ("clips.csv", "mixture/clips.csv"):
        assert (rerun / name).read_bytes() == (whole / name).read_bytes()
    for name in ("metrics.json", "mixture/metrics.json"):
        expected, got = (json.loads((folder / name).read_text()) for folder in (whole, rerun))
        assert got["metrics"] == expected["metrics"] and got["sweep"] == expected["sweep"]
    assert not list((tmp_path / "stopped").rglob("scoring-*"))


def test_scores_of_another_commit_are_made_anew_and_that_is_told(
    interpret, classifier, scored, tmp_path, capsys, monkeypatch
):
    batches, stop_after = scored
    stop_after[0] = 3
    with pytest.raises(Interrupted):
        interpret(MODULATION, tmp_path, f"--classifier={classifier}", *OPTIONS)
    batches.clear()
    stop_after[0] = -1
    monkeypatch.setattr("recipes.runs.facts.commit", lambda: "another")
    capsys.readouterr()
    interpret(MODULATION, tmp_path, f"--classifier={classifier}", *OPTIONS)
    told = capsys.readouterr().out
    assert "score clean: 3 batches are scored anew, because the recipe, data, weights, device, torch or commit" in told
    assert "were scored before" not in told and len(batches) == 2 * BATCHES


def test_clips_that_are_listed_in_another_order_are_scored_anew(
    interpret, explained, tones, trained, scored, tmp_path, capsys
):
    """With --test_only the run's identity stays, and the journal's positions would be those of other clips."""
    batches, stop_after = scored
    mine = tones.copy(tmp_path / "set")
    shutil.copytree(explained, tmp_path / "out/lmac/1234")
    changes = (f"--data_folder={mine.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL)
    again = (LMAC, tmp_path / "out", *changes, "--test_only", "--eval_batch_size=2")
    stop_after[0] = 2
    with pytest.raises(Interrupted):
        interpret(*again)
    mine.rewrite(mine.rows()[::-1])
    batches.clear()
    stop_after[0] = -1
    capsys.readouterr()
    run = interpret(*again)
    assert "score clean: 2 batches are scored anew" in capsys.readouterr().out and len(batches) == 3
    ids = [row["id"] for row in read_rows(run / "clips.csv")]
    assert sorted(ids) == sorted(Path(row["filename"]).stem for row in mine.rows() if row["fold"] == "5")


def test_scores_of_another_basis_and_half_a_line_are_forgotten(tmp_path):
    first = ScoredBatch(0, [3, 4], [{"acc": [1.0, 0.25]}], 0.5)
    second = ScoredBatch(1, [5], [{"acc": [0.1]}], 0.125)
    journal = ScoreJournal(tmp_path, "a")
    journal.open({0: first})
    journal.add(second)
    again = ScoreJournal(tmp_path, "a")
    assert again.scored() == {0: first, 1: second}
    path = tmp_path / "scoring-0.jsonl"
    path.write_text(path.read_text()[:-9])
    assert again.scored() == {0: first}
    assert again.of_another_basis() == 0
    assert ScoreJournal(tmp_path, "b").scored() == {} and ScoreJournal(tmp_path, "b").of_another_basis() == 1
