"""One recipe trained with one thing changed at a time: its runs, its numbers, its table, and what it refuses."""

import json

import pytest
import torch
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.ablation import Line, chosen_point, main, parse_line, table, with_row
from recipes.config.recipe import load_recipe
from recipes.data.corpus import evenly_spaced
from recipes.interpretation import train_interpreter
from recipes.masks import facts_of, score_method
from recipes.runs.heard_clips import HeardClips
from recipes.runs.trained import open_trained_run
from recipes.scoring.fixed_area import Setting
from recipes.training.mask_gain import read_curve

RECIPE = HPARAMS / "amortized_mobilenet.yaml"
# 60 training clips: three batches
SHORT = ("--epochs=1", "--batch_size=20", "--precision=fp32", "--mask_clips=4", "--eval_batch_size=4")


@pytest.fixture(scope="module")
def options(arguments, bundle, tmp_path_factory):
    return arguments(RECIPE, tmp_path_factory.mktemp("runs"), f"--classifier={bundle('cnn14')}", *SHORT)


@pytest.fixture(scope="module")
def ablated(options, tmp_path_factory):
    """The folder of a first call: two lines, of which the second has other mixtures."""
    folder = tmp_path_factory.mktemp("ablation")
    places = (f"--out={folder / 'ablation.json'}", f"--page={folder / 'page.md'}")
    recipe, *given = options
    lines = ("as it is", "no mixtures:interpreter.mixed=0")
    main([recipe, "--lines", *lines, *given, *places, "--clips=6", "--mask_steps=2"])
    return folder


def rows_of(folder) -> list[dict]:
    return json.loads((folder / "ablation.json").read_text())


def run_of(options, experiment: str, *changes: str):
    return open_trained_run(load_recipe([*options, *changes, f"--experiment={experiment}"]))


def test_every_line_is_a_row_with_its_curve(ablated):
    first, second = rows_of(ablated)
    assert (first["line"], first["changes"]) == ("as it is", [])
    assert (second["line"], second["changes"]) == ("no mixtures", ["interpreter.mixed=0"])
    for row in (first, second):
        assert [(point["epoch"], point["step"]) for point in row["curve"]] == [(1, 2), (1, 3)]
        for point in row["curve"]:
            parts = point["ad_gain"] + point["fa_gain"] + point["pointing"]
            assert point["mask_gain"] == pytest.approx(parts, abs=1e-4)
        assert row["scores"]["clean"]["n"] == row["scores"]["mixture_0dB"]["n"] == 6
        assert "ap" not in row["scores"]["clean"]


def test_scores_are_means_of_those_of_recipes_masks(ablated, options):
    run = run_of(options, "amortized_mobilenet_no_mixtures", "--interpreter.mixed=0")
    clips = HeardClips(run, "valid", evenly_spaced(run.clips("valid"), 6))

    def rank(heard):
        return run.interpreter.importance(clips.classifier, heard.spectrogram, heard.evidence).detach()

    expected = score_method(clips, facts_of(clips, "own", "clean"), rank)
    scores = rows_of(ablated)[1]["scores"]["clean"]
    for name in ("fid_i", "fa", "ai", "ad"):
        assert scores[name] == pytest.approx(expected.values(Setting(0.2, "silence"), name).mean(), abs=1e-3)


def test_scoring_masks_within_an_epoch_changes_no_weight(ablated, options):
    alone = train_interpreter(load_recipe([*options, "--experiment=alone"]))
    assert [point["step"] for point in read_curve(alone.folder)] == [3]
    within = run_of(options, "amortized_mobilenet_as_it_is").interpreter.state_dict()
    for name, weight in alone.interpreter.state_dict().items():
        assert torch.equal(weight, within[name]), name


def test_a_finished_line_is_not_trained_again(ablated, options, monkeypatch, tmp_path):
    def forbidden(*given, **named):
        raise AssertionError("a finished line took a training step")

    monkeypatch.setattr("recipes.training.interpreter_brain.InterpreterBrain.fit_batch", forbidden)
    recipe, *given = options
    main([recipe, "--lines", "as it is", *given, f"--out={tmp_path / 'ablation.json'}", "--clips=6", "--mask_steps=2"])
    (again,) = rows_of(tmp_path)
    first, _ = rows_of(ablated)
    assert (again["curve"], again["scores"]) == (first["curve"], first["scores"])


def row_of(line: str, seed: int, n: int = 6) -> dict:
    return {"line": line, "seed": seed, "recipe": "amortized_mobilenet", "scores": {"clean": {"n": n}}}


def test_lines_of_earlier_calls_stay_in_the_file():
    rows = [row_of("one", 1), row_of("two", 1)]
    assert with_row(rows, row_of("one", 2)) == [row_of("one", 2), row_of("two", 1)]
    assert with_row(rows, row_of("three", 1)) == [*rows, row_of("three", 1)]


def test_lines_on_other_clips_are_not_put_into_one_table(ablated, options):
    recipe, *given = options
    message = "'as it is' is a line of amortized_mobilenet on 6 clips and 'no mixtures' one of .* on 5"
    with pytest.raises(UsageError, match=message):
        changed = "no mixtures:interpreter.mixed=0"
        main([recipe, "--lines", changed, *given, f"--out={ablated / 'ablation.json'}", "--clips=5", "--mask_steps=2"])
    assert [row["scores"]["clean"]["n"] for row in rows_of(ablated)] == [6, 6]


def test_the_page_holds_the_table(ablated):
    page = (ablated / "page.md").read_text()
    assert table(rows_of(ablated)) in page


def test_the_table_has_a_column_for_every_point_and_leaves_out_what_a_line_lacks():
    scores = {"clean": {"fid_i": 0.5, "fa": 0.25}, "mixture_0dB": {"fid_i": 0.75, "fa": 0.125, "ap": 0.625}}
    early = {"epoch": 1, "step": 50, "ad_gain": 0.1, "fa_gain": 0.2, "pointing": 0.3, "mask_gain": 0.6}
    late = {"epoch": 1, "step": 75, "ad_gain": 0.2, "fa_gain": 0.2, "pointing": 0.4, "mask_gain": 0.8}
    rows = [
        {"line": "as it is", "epoch": 1, "curve": [early, late], "scores": scores},
        {"line": "short", "epoch": 1, "curve": [late], "scores": scores},
    ]
    assert table(rows).splitlines() == [
        "| line | gain, step 50 | gain, step 75 | AD gain | FA gain | pointing "
        "| clean: FID-I / FA | 0 dB: FID-I / FA | AP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| as it is | 0.6 | 0.8 | 0.2 | 0.2 | 0.4 | 0.5 / 0.25 | 0.75 / 0.125 | 0.625 |",
        "| short |  | 0.8 | 0.2 | 0.2 | 0.4 | 0.5 / 0.25 | 0.75 / 0.125 | 0.625 |",
    ]


def test_the_parts_of_the_gain_are_those_of_the_chosen_epoch():
    row = {"epoch": 1, "curve": [{"epoch": 1, "step": 1}, {"epoch": 1, "step": 2}, {"epoch": 2, "step": 2}]}
    assert chosen_point(row) == {"epoch": 1, "step": 2}


def test_a_line_is_a_name_and_its_changes():
    assert parse_line("seed 1:seed=1") == Line("seed 1", ("seed=1",))
    assert parse_line("two:a=[0.2,0.2]:b.c=3") == Line("two", ("a=[0.2,0.2]", "b.c=3"))


@pytest.mark.parametrize("text", ["", ":seed=1", "seed 1:seed"])
def test_lines_of_another_form_are_refused(text):
    with pytest.raises(UsageError, match="must be a name and the keys it changes"):
        parse_line(text)


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (("one", "one:seed=1"), (), "the lines 'one' and 'one' would share the folder of 'one'"),
        (("no infill", "no/infill"), (), "the lines 'no infill' and 'no/infill' would share"),
        (("one:interpreter.none=1", "two:epochs=0"), (), r"(?s)none.*epochs"),
        (("one",), ("--mask_clips=null",), "pass --mask_clips=100"),
        (("one",), ("--clips=0",), "must be at least 1"),
    ],
)
def test_mistakes_are_told_before_the_first_training(arguments, bundle, tmp_path, lines, changes, message):
    recipe, *given = arguments(RECIPE, tmp_path, f"--classifier={bundle('cnn14')}", *SHORT)
    with pytest.raises(UsageError, match=message):
        main([recipe, "--lines", *lines, *given, *changes])
    assert list(tmp_path.iterdir()) == []


def test_how_a_trained_mask_was_trained_cannot_be_changed_but_how_it_explains_can(ablated, options):
    with pytest.raises(
        UsageError, match=r"was trained with other settings \(interpreter.mixed: 0.6 -> 0.0\), and only"
    ):
        run_of(options, "amortized_mobilenet_as_it_is", "--interpreter.mixed=0.0")
    run = run_of(options, "amortized_mobilenet_as_it_is", "--interpreter.finish_steps=1", "--interpreter.mixed=0.6")
    assert run.interpreter.finish.finish_steps == 1
