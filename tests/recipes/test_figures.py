"""Figures for papers: a row a clip, a column a method, at the asked size, and what is refused."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.figures import main


@pytest.fixture(scope="module")
def run(interpret, bundle, tmp_path_factory):
    classifier = f"--classifier={bundle('focalnet')}"
    return interpret(HPARAMS / "modulation.yaml", tmp_path_factory.mktemp("run"), classifier, "--report_clips=1")


def test_chosen_clips_are_drawn_at_the_width_of_a_column(run, tmp_path):
    clips = sorted(path.name.removesuffix("_input.wav") for path in (run / "media").glob("*_input.wav"))[:2]
    figure = tmp_path / "figure.svg"
    main([str(run), "--clips", *clips, f"--out={figure}", "--width=3.5"])
    root = ET.parse(figure).getroot()
    assert root.get("width") == "252pt"  # 3.5 inches of 72 points
    panels = [group for group in root.iter() if str(group.get("id")).startswith("axes_")]
    assert len(panels) == 2 * (1 + 1)
    text = figure.read_text()
    assert "modulation map, q = 0.9" in text and "time [s]" in text and "kHz" in text


def test_files_are_drawn_and_a_figure_comes_out_the_same(run, sound_file, tmp_path):
    sound = sound_file("heard.wav", 0.1 * np.random.default_rng(0).standard_normal(8000))
    contents = []
    for name in ("first.pdf", "second.pdf"):
        main([str(run), "--audio", str(sound), f"--out={tmp_path / name}"])
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"%PDF")


def test_what_cannot_be_drawn_is_refused(run, tmp_path):
    for arguments, sentence in (
        (["--clips", "5-1", "--out=figure.gif"], r"must end in \.pdf, \.svg, \.png"),
        (["--clips", "5-1", "--width=0"], "--width=0.0 and --font_size=7.0 must be above 0"),
        ([], "give either --clips"),
        (["--clips", "nowhere"], "--clips=nowhere is explained by none of the runs; those that are: "),
    ):
        with pytest.raises(UsageError, match=sentence):
            main([str(run), *arguments])
