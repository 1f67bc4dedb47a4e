"""The start-up tool: what it starts exists, and its table shows what it measured."""

from pathlib import Path

import pytest

from models.bundle import load_bundle
from models.errors import UsageError
from recipes.config.catalog import answer
from recipes.config.recipe import load_recipe
from tools.runner import ROOT
from tools.startup import commands, cpu_seconds, make_demo, table


def test_the_table_shows_both_checkouts_or_one():
    results = {"a": {"before": 5.0123, "now": 0.1299}, "b": {"now": 4.0}}
    assert table(results).splitlines()[2:] == ["| a | 5.01 | 0.13 |", "| b |  | 4.00 |"]


def test_every_command_is_refused_answered_or_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, (script, *arguments) in commands(make_demo(tmp_path)).items():
        if name in ("a misspelt key", "a value out of range"):
            with pytest.raises(UsageError):
                load_recipe(arguments)
        elif name.startswith("--"):
            assert answer(arguments, script)
        else:
            values = load_recipe(arguments).values
            assert Path(values["audio"]).is_file()
            assert load_bundle(values["classifier"], "classifier").info.clip_seconds == 2.0


def test_cpu_time_is_that_of_the_process_and_a_traceback_is_told(tmp_path):
    (tmp_path / "wait.py").write_text("import time\ntime.sleep(0.5)\n")
    assert 0 < cpu_seconds(["wait.py"], tmp_path, repeats=2) < 0.5
    (tmp_path / "wrong.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        cpu_seconds(["wrong.py"], tmp_path)
