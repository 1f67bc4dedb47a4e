"""What a run prints: a line an epoch, its scores in words, and the command to try next."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from recipe_files import TINY

from recipes.report.closing import classifier_closing


def test_a_training_prints_its_epochs_and_what_to_do_next(train, tmp_path, capsys):
    folder = train(TINY, tmp_path, "--epochs=2")
    captured = capsys.readouterr()
    epochs = re.findall(r"^epoch (\d)/2  train loss \S+  valid acc \S+  rate \S+  \d+ s(.*)$", captured.out, flags=re.M)
    assert [number for number, _ in epochs] == ["1", "2"]
    assert epochs[0][1] == "  best so far"
    last = captured.out.splitlines()[-1]
    assert re.search(r"^test accuracy \d\.\d{3}: \d+ of 20 clips of fold 5 get their right class$", captured.out, re.M)
    assert last.startswith(f"next: python interpret.py hparams/modulation.yaml --classifier={folder / 'classifier'}")
    assert f"--output_folder={tmp_path}" in last


def test_an_explanation_prints_its_scores_in_words(interpret, bundle, tmp_path, capsys, caplog):
    bundle_folder = bundle("focalnet")
    capsys.readouterr()
    caplog.clear()
    recipe = TINY.parents[2] / "hparams" / "modulation.yaml"
    folder = interpret(recipe, tmp_path, f"--classifier={bundle_folder}", "--report_clips=0", "--quantile=[0.5,0.9]")
    out = capsys.readouterr().out
    assert "modulation: 20 clean clips of fold 5" in out
    assert "at quantile 0.9:" in out and out.count("0.5  ") >= 1
    assert "share of clips whose relevant part alone gets the predicted class; larger is better" in out
    assert f"report: {folder / 'report.html'}" in out
    assert not [record for record in caplog.records if "parameters" in record.getMessage()]


def test_the_next_command_asks_the_same_method_wherever_it_lies(interpret, bundle, tmp_path, capsys):
    """It names what the command line changed, in quotes where a shell needs them."""
    recipe, output = TINY.parents[2] / "hparams" / "grad_cam.yaml", tmp_path / "my runs"
    changes = ("--report_clips=0", "--quantile=[0.5,0.9]", "--seed=3")
    interpret(recipe, output, f"--classifier={bundle('cnn14')}", *changes)
    last = capsys.readouterr().out.splitlines()[-1]
    asked = "--experiment=grad_cam --interpreter.quantile=0.9 --seed=3"
    assert last.endswith(f" {asked} --output_folder='{output}' --audio=a_sound.wav")


@pytest.mark.parametrize(
    ("map_name", "method"), [("modulation", "modulation"), ("attention", "attention"), (None, "grad_cam")]
)
def test_the_next_command_shows_the_classifiers_own_map_where_it_has_one(map_name, method):
    values = {"data_folder": "data/ESC-50", "output_folder": "results"}
    parts = {"folder": Path("results/x/1234"), "results_folder": Path("results/x/1234"), "values": values}
    run = SimpleNamespace(clips=lambda part: [0, 1], folds=lambda part: (5,), **parts)
    last = classifier_closing(run, {"acc": 0.5}, SimpleNamespace(map_name=map_name)).splitlines()[-1]
    bundle = "--classifier=results/x/1234/classifier --data_folder=data/ESC-50"
    assert last == f"next: python interpret.py hparams/{method}.yaml {bundle}"
