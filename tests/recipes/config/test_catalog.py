"""Usage, lists and help: every recipe and tool is named, every key explained, and nothing slow is imported."""

import re
import subprocess
import sys

import pytest
from recipe_files import HPARAMS

from recipes.config.catalog import (
    PUBLISHED,
    answer,
    comments_of,
    first_sentence,
    groups,
    header,
    recipe_help,
    shown,
    tools,
)
from recipes.config.compose import compose
from recipes.config.yaml_text import read_tree

ROOT = HPARAMS.parent
RECIPES = sorted([*HPARAMS.glob("*.yaml"), *HPARAMS.glob("paper/*.yaml")])
SLOW = ("torch", "speechbrain", "transformers", "numpy", "scipy", "sklearn", "matplotlib", "captum", "soundfile")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--list"], ["--list", "--help"]])
@pytest.mark.parametrize(("command", "key"), [("train.py", "model"), ("interpret.py", "interpreter")])
def test_usage_names_every_recipe_of_the_command_and_every_tool(arguments, command, key):
    told = answer(arguments, command)
    listed = set(re.findall(r"^  hparams/(\S+\.yaml)", told, re.M))
    assert listed == {str(path.relative_to(HPARAMS)) for path in RECIPES if key in compose(path).tree}
    assert f"python {command} RECIPE.yaml" in told
    commands = [path.stem for path in (ROOT / "recipes").glob("*.py") if '"__main__"' in path.read_text()]
    assert set(re.findall(r"^  python -m recipes\.(\w+)", told, re.M)) == {*commands} - {"__main__"}


def test_a_recipe_is_listed_with_its_first_sentence():
    told = answer(["--list"], "interpret.py")
    assert "hparams/smoothgrad.yaml            SmoothGrad." in told
    assert re.search(r"hparams/lmac\.yaml +L-MAC on CNN14 \(arXiv 2403\.13086\): a decoder learns", told)


def test_every_method_is_in_a_group_that_says_which_classifiers_it_fits():
    for group in groups("interpret.py"):
        assert group.fits, group.name
        assert group.name != "Other methods"
    assert [group.name for group in groups("train.py")] == ["Classifiers", PUBLISHED]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_help_after_a_recipe_lists_its_keys_with_values(path):
    command = "train.py" if "model" in compose(path).tree else "interpret.py"
    told = recipe_help(path, command)
    keys = set(re.findall(r"^  --([\w.]+)=", told, re.M))
    expanded = compose(path).expanded()
    plain = {key for key, node in expanded.items() if not isinstance(node, dict)}
    assert {key for key in keys if "." not in key} >= plain
    assert f"usage: python {command} {path}" in told
    assert "--test_only" in told


def test_help_shows_values_comments_and_settings_inside_blocks():
    told = answer([str(HPARAMS / "lmac.yaml"), "--help"], "interpret.py")
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "--epochs=4 200 in the paper" in lines
    assert "--subset=null esc10: ESC-50's ten-class subset" in lines
    assert "--train_folds=[1,2,3]" in lines
    assert "--interpreter.decoder.width=128 channels at the coarsest map" in lines
    assert "--interpreter.outside=0.2 weight of the prediction on the residual part" in lines
    assert "--optimizer.lr=1e-06" in lines


def test_an_unset_key_is_shown_as_one_to_give(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {HPARAMS / 'common/interpreter.yaml'}\n")
    told = answer([str(tmp_path / "mine.yaml"), "--help"], "interpret.py")
    assert re.search(r"^  --classifier=VALUE +the bundle to explain, such as", told, re.M)


def test_work_is_not_answered():
    assert answer([str(HPARAMS / "lmac.yaml"), "--epochs=2"], "interpret.py") is None


@pytest.mark.parametrize(
    ("text", "shows"), [("null", "null"), ("true", "true"), ("[1, a]", "[1,a]"), ("x y", "x y"), ("1.5", "1.5")]
)
def test_values_are_shown_as_one_types_them(text, shows):
    assert shown(read_tree(f"a: {text}\n", "x")["a"]) == shows


def test_comments_belong_to_the_key_of_their_line():
    text = "a: 1  # one\nb:\n    c: '#x'  # two\n    d:\n        e: 3\n    f: 4 # three\ng: a#b\n"
    assert comments_of(text) == {"a": "one", "b.c": "two", "b.f": "three"}


def test_a_header_is_its_sentences_without_commands():
    text = "# First, see arXiv 1.2. Second\n# goes on.\n#   python train.py x\n# Third.\nseed: 1\n# no header\n"
    assert header(text) == "First, see arXiv 1.2. Second goes on. Third."
    assert first_sentence(text) == "First, see arXiv 1.2."


@pytest.mark.parametrize(
    "line",
    [
        ("train.py",),
        ("interpret.py", "--list"),
        ("interpret.py", "hparams/lmac.yaml", "--help"),
        ("-m", "recipes"),
        ("train.py", "hparams/lmac.yaml"),
        ("interpret.py", "hparams/lmac.yaml", "--epoch=1", "--audio=gone.wav", "--contamination=whit"),
    ],
)
def test_nothing_slow_is_imported_to_answer(line):
    report = "import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules))"
    start = f"{report}; import runpy; sys.argv = {list(line)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    if line[0] == "-m":
        start = f"{report}; import runpy; sys.argv = ['recipes']; runpy.run_module('recipes', run_name='__main__')"
    code = start.replace("import atexit, sys;", f"import atexit, sys; sys.path.insert(0, {str(ROOT)!r});")
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    loaded = finished.stdout.splitlines()[-1].split()
    assert loaded[0] == "LOADED", finished.stderr
    assert {module.partition(".")[0] for module in loaded}.isdisjoint(SLOW)


def test_python_m_recipes_lists_the_commands_and_tools():
    finished = subprocess.run([sys.executable, "-m", "recipes"], cwd=ROOT, capture_output=True, text=True, check=True)
    for line in ("python train.py", "python interpret.py", *tools()):
        assert f"  {line} " in finished.stdout
