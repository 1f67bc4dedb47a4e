"""The command that scores masks of fixed areas: what it leaves, what it takes up again, and what it refuses."""

import csv
import json
import shutil

import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.masks import controls, main, parse_recipe
from recipes.report.mask_table import CONTROLS
from recipes.scoring.fixed_area import KINDS_OF_CLIPS, settings_of


@pytest.fixture(scope="module")
def options(arguments, bundle, tmp_path_factory):
    """What every call needs beside its recipes and --out."""
    _, *given = arguments(HPARAMS / "grad_cam.yaml", tmp_path_factory.mktemp("runs"))
    return [*given, f"--classifier={bundle('cnn14')}", "--eval_batch_size=4"]


@pytest.fixture(scope="module")
def scored(options, tmp_path_factory):
    """The folder of a first call: Grad-CAM on six test clips."""
    folder = tmp_path_factory.mktemp("masks")
    page = f"--page={folder / 'page.md'}"
    main([str(HPARAMS / "grad_cam.yaml"), f"--out={folder / 'masks'}", page, "--clips=6", *options])
    return folder


def rows_of(folder) -> list[dict]:
    return json.loads((folder / "masks.json").read_text())


def test_every_method_setting_and_kind_of_clips_has_a_row(scored):
    rows = rows_of(scored)
    methods = {"grad_cam", *CONTROLS}
    found = {(row["method"], row["clips"], row["area"], row["removal"]) for row in rows}
    expected = {
        (method, clips, setting.area, setting.removal)
        for method in methods
        for clips in KINDS_OF_CLIPS
        for setting in settings_of()
    }
    assert found == expected and len(rows) == len(expected)
    for row in rows:
        assert row["n"] == 6 and 0 <= row["fid_i"] <= 1 and -1 <= row["fa"] <= 1
        assert (row["ap"] is None) == (row["clips"] == "clean")
        assert row["cpu_minutes"] is None and row["epochs"] is None


def test_the_constant_keeps_the_share_of_every_bin_and_ranks_nothing(scored):
    """Its AP is the share of ideal bins, and so is its pointing: all bins tie."""
    rows = [row for row in rows_of(scored) if row["method"] == "constant" and row["clips"] == "mixture_0dB"]
    for row in rows:
        assert row["ap"] == pytest.approx(row["pointing"], abs=1e-4)


def test_clips_have_their_values_and_recordings(scored):
    with (scored / "masks/grad_cam.clean.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * len(settings_of())
    assert len({row["id"] for row in rows}) == 6
    assert all(row["recording"] for row in rows)
    mean = sum(float(row["fa"]) for row in rows if row["area"] == "0.1") / 6
    (summary,) = [
        row for row in rows_of(scored) if (row["method"], row["clips"], row["area"]) == ("grad_cam", "clean", 0.1)
    ]
    assert summary["fa"] == pytest.approx(mean, abs=1e-4)


def test_the_page_and_the_picture(scored):
    page = (scored / "page.md").read_text()
    for name in ("grad_cam", *CONTROLS):
        assert f"| {name} |" in page
    assert (scored / "masks.svg").stat().st_size > 1000


def test_controls_are_scored_once_and_a_name_and_keys_of_ones_own_make_a_method(scored, options):
    before = (scored / "masks/loudest_bins.clean.csv").stat().st_mtime_ns
    named = f"grad_cam, fine={HPARAMS / 'grad_cam.yaml'}:map_index=-2"
    main([named, f"--out={scored / 'masks'}", "--clips=6", *options])
    assert (scored / "masks/loudest_bins.clean.csv").stat().st_mtime_ns == before
    assert {row["method"] for row in rows_of(scored)} == {"grad_cam", "grad_cam, fine", *CONTROLS}


def test_without_a_recipe_the_summary_is_made_again(scored):
    before = rows_of(scored)
    (scored / "masks.json").unlink()
    main([f"--out={scored / 'masks'}"])
    assert rows_of(scored)[0].keys() == before[0].keys()


def test_the_controls_are_those_that_tables_know():
    assert tuple(controls(seed=0)) == CONTROLS == ("loudest_bins", "loudest_patches", "random_patches", "constant")


def test_recipes_are_named_on_the_command_line():
    path = str(HPARAMS / "grad_cam.yaml")
    name, recipe = parse_recipe(f"{path}:map_index=-2", ["--seed=7"])
    assert name is None and recipe.values["map_index"] == -2 and recipe.values["seed"] == 7
    name, recipe = parse_recipe(f"coarse={path}", [])
    assert name == "coarse" and recipe.path.name == "grad_cam.yaml"


@pytest.mark.parametrize(
    "changes, message",
    [
        (["--clips=0"], "--clips=0 must be at least 1"),
        (["--contamination=mixture"], "leave out --contamination"),
    ],
)
def test_what_cannot_be_scored_is_refused(options, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        main([str(HPARAMS / "grad_cam.yaml"), f"--out={tmp_path / 'masks'}", *changes, *options])
    assert not (tmp_path / "masks").exists()


def test_recipes_of_different_seeds_are_refused(options, tmp_path):
    path = HPARAMS / "grad_cam.yaml"
    with pytest.raises(UsageError, match=r"has seed=1 and .* has seed=2"):
        main([f"a={path}:seed=1", f"b={path}:seed=2", f"--out={tmp_path / 'masks'}", *options])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--seed=2"], r"have seed=1234 and seed=2, which mix other clips: give each seed a folder of its own"),
        (["--clips=5"], r"constant and other in .* have different clips: score them alike"),
    ],
)
def test_what_cannot_stand_in_a_folder_is_told_before_it_is_scored(scored, options, changes, message):
    before = sorted(path.name for path in (scored / "masks").iterdir())
    with pytest.raises(UsageError, match=message):
        main([f"other={HPARAMS / 'grad_cam.yaml'}", f"--out={scored / 'masks'}", "--clips=6", *options, *changes])
    assert sorted(path.name for path in (scored / "masks").iterdir()) == before


def test_other_sounds_under_the_same_names_are_refused(scored, options, corpus, tmp_path):
    """The controls that a folder holds already are not set beside scores of other sounds."""
    shutil.copytree(corpus, tmp_path / "other")
    test_clips = sorted((tmp_path / "other/audio").glob("5-*"))
    shutil.copyfile(test_clips[0], test_clips[-1])
    other = [f"--data_folder={tmp_path / 'other'}", f"--out={scored / 'masks'}", "--clips=6"]
    with pytest.raises(UsageError, match="clips of the same names with other sounds or labels"):
        main([f"other={HPARAMS / 'grad_cam.yaml'}", *options, *other])


def test_a_call_that_is_stopped_leaves_no_scores_of_an_earlier_one(options, tmp_path, monkeypatch):
    call = [str(HPARAMS / "grad_cam.yaml"), f"--out={tmp_path / 'masks'}", "--clips=2", *options]
    main(call)
    monkeypatch.setattr("recipes.masks.score_method", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main([*call, "--map_index=-2"])
    assert not list((tmp_path / "masks").glob("grad_cam.*.json"))
    monkeypatch.undo()
    main(call)
    assert len(list((tmp_path / "masks").glob("grad_cam.*.json"))) == len(KINDS_OF_CLIPS)


@pytest.mark.parametrize("names", [("same", "same"), ("a b", "a_b"), ("one", "loudest bins")])
def test_names_that_would_share_files_are_refused(options, tmp_path, names):
    recipes = [f"{name}={HPARAMS / 'grad_cam.yaml'}" for name in names]
    with pytest.raises(UsageError, match=f"'{names[1]}' is a control's name or an earlier recipe's"):
        main([*recipes, f"--out={tmp_path / 'masks'}", *options])
    assert not (tmp_path / "masks").exists()
