"""What the tools share: results that are kept, and files that cannot be written are refused before anything runs."""

import argparse
import json

import pytest

from tests.helpers import refusal
from tools import fuzz
from tools.runner import check_out, positive, report_result, tool_parser


def test_a_result_is_printed_and_kept(tmp_path, capsys):
    report_result({"name": "鳥", "count": 2}, tmp_path / "new" / "result.json")
    assert json.loads((tmp_path / "new" / "result.json").read_text()) == {"name": "鳥", "count": 2}
    assert json.loads(capsys.readouterr().out) == {"name": "鳥", "count": 2}


def test_without_a_file_a_result_is_only_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report_result({"count": 2}, None)
    assert json.loads(capsys.readouterr().out) == {"count": 2}
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_refused_before_the_tool_runs(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(fuzz, "fuzz", lambda *args: pytest.fail("the tool ran"))
    out = tmp_path / "file" / "below" / "result.json"
    assert refusal(fuzz.main, ["--cases=1", f"--out={out}"]) == (
        f"--out={out} cannot be written, because {tmp_path / 'file'} is not a folder: choose another one"
    )
    assert refusal(check_out, tmp_path) == f"--out={tmp_path} is a folder: give the name of a JSON file"


def test_only_a_tool_that_draws_takes_a_seed():
    assert tool_parser("fuzz", "Title.\n\nMore.", seeded=True).parse_args(["--seed=3"]).seed == 3
    with pytest.raises(SystemExit):
        tool_parser("stream", "Title.").parse_args(["--seed=3"])


@pytest.mark.parametrize("text", ["0", "-3"])
def test_a_count_is_at_least_one(text):
    assert positive("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a number of at least 1"):
        positive(text)
