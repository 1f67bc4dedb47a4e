"""Several explainers on one page: which clips and methods stand there, in what order, and what is refused."""

import re
import shutil

import numpy as np
import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.report.side_by_side import explained_clips
from recipes.runs.ready import CONTROL, load_runs, with_control
from recipes.side_by_side import main

MODULATION = HPARAMS / "modulation.yaml"


@pytest.fixture(scope="module")
def runs(interpret, bundle, tmp_path_factory):
    """Two modulation maps of the tiny FocalNet, at two quantiles."""
    folder, classifier = tmp_path_factory.mktemp("runs"), f"--classifier={bundle('focalnet')}"
    return [
        interpret(MODULATION, folder, classifier, f"--quantile={q}", f"--experiment={name}", "--report_clips=1")
        for name, q in (("sparse", 0.95), ("half", 0.5))
    ]


def test_a_page_has_a_row_a_clip_and_a_column_a_method_with_the_control(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    main([*map(str, runs), f"--out={page}", "--clips=3"])
    assert "(3 clips, 3 methods, " in capsys.readouterr().out
    text = page.read_text()
    assert text.count("<article") == 3
    assert text.count('<div class="view"') == 9
    # one input for every row, and two parts for every method
    assert text.count("data-sound=") == 3 * (1 + 2 * 3)
    heads = re.findall(r"<h4>([^<]*)</h4>", text)
    assert heads[:3] == ["modulation map, q = 0.95", "modulation map, q = 0.5", CONTROL]


def test_the_control_keeps_as_much_as_the_first_method(runs):
    methods = with_control(*load_runs(runs, "cpu"), "cpu")
    assert [method.interpreter.quantiles for method in methods] == [(0.95,), (0.5,), (0.95,)]


def test_files_can_be_compared_instead_of_the_runs_clips(runs, sound_file, tmp_path):
    sound = sound_file("heard.wav", 0.1 * np.random.default_rng(0).standard_normal(8000))
    page = tmp_path / "page.html"
    main([*map(str, runs), f"--out={page}", "--audio", str(sound)])
    text = page.read_text()
    assert text.count("<article") == 1
    assert "heard as" in text and "✗ wrong" not in text


def test_clips_that_several_runs_explained_come_first(runs):
    rate = load_runs(runs[:1], "cpu")[0].info.sample_rate
    shared = {path.name for path in (runs[0] / "media").glob("*_input.wav")}
    shared &= {path.name for path in (runs[1] / "media").glob("*_input.wav")}
    clips = explained_clips(runs, len(shared), rate)
    assert {f"{clip.id}_input.wav" for clip in clips} == shared
    assert all(clip.label for clip in clips)


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    for folders, sentence in (
        ([], "give different runs' folders"),
        ([runs[0], runs[0]], "give different runs' folders"),
        ([tmp_path], "is no finished run of interpret"),
    ):
        with pytest.raises(UsageError, match=sentence):
            load_runs(folders, "cpu")
    empty = tmp_path / "empty"
    shutil.copytree(runs[0], empty, ignore=shutil.ignore_patterns("media"))
    with pytest.raises(UsageError, match="holds no explained clips"):
        explained_clips([empty], 1, 16000)
    with pytest.raises(UsageError, match="--clips=0 must be at least 1"):
        main([str(runs[0]), "--clips=0"])
