"""The documentation: its commands and programs run, its recipes exist, its links lead somewhere."""

import argparse
import importlib
import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse

import pytest
import soundfile
import yaml

import recipes.conformance
import recipes.listening
import recipes.synthetic
from recipes.classification import train_classifier
from recipes.config.catalog import COMMANDS, answer
from recipes.config.recipe import load_recipe
from recipes.interpretation import run_interpreter

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
OWN = [ROOT / "docs" / f"{name}.md" for name in ("tutorial", "methods", "plugins", "yaml", "listening")]
STEP = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--noprogressbar", "--device=cpu", "--batch_size=4")
# what sets a machine up, or needs an account
NOT_RUN = ("make", ".", "hf")


def name(path: Path) -> str:
    return path.stem


def blocks(path: Path, *languages: str) -> list[tuple[str, str]]:
    """(language, text) of a page's fenced blocks, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    return [(language, text) for language, text in found if language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of each command, lines that end in a backslash joined."""
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def python_commands(path: Path) -> list[list[str]]:
    """Every `python …` of a page, in fenced or indented blocks or in a table."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"(?:^|`)(?: {4}|PYTHONPATH=\S+ )?(python (?:-m |train|interpret)[^`\n|]+)", text, re.M)
    return [shlex.split(one, comments=True) for one in found]


def left_for_the_recipe(module, arguments: list[str], monkeypatch) -> list[str]:
    """What a command's own parser, where it has one, leaves of its arguments: the recipe and its keys, or nothing."""
    parse = argparse.ArgumentParser.parse_known_args

    def stop(parser, given, namespace=None):
        raise InterruptedError(parse(parser, given, namespace)[1])

    has_parser = hasattr(module, "argparse") or hasattr(module, "tool_parser")
    if not has_parser or not arguments:
        recipes_and_keys = [word for word in arguments if word.startswith("--") or word.endswith(".yaml")]
        return recipes_and_keys if arguments and arguments[0].endswith(".yaml") else []
    with monkeypatch.context() as patched, pytest.raises(InterruptedError) as stopped:
        patched.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patched.setattr(sys, "argv", [module.__name__, *arguments])
        module.main(*[arguments][: len(inspect.signature(module.main).parameters)])
    return stopped.value.args[0]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def run(words: list[str], monkeypatch) -> None:
    """One documented command in this process, on little data and for one step."""
    while re.match(r"\w+=", words[0]):
        monkeypatch.syspath_prepend(words[0].partition("=")[2])
        words = words[1:]
    if words[0] in NOT_RUN:
        return
    assert words[0] == "python"
    if words[1] == "train.py":
        train_classifier(load_recipe([*words[2:], *STEP]))
    elif words[1] == "interpret.py":
        trained = STEP if "lmac" in words[2] else STEP[:-1]
        clips = 2 if "--experiment=demo_" in " ".join(words) else 0  # those that the study is made of
        run_interpreter(load_recipe([*words[2:], *trained, f"--report_clips={clips}", "--eval_batch_size=4"]))
    elif words[2] == "recipes.synthetic":
        recipes.synthetic.main([words[3], "--clips_per_class=5", "--mixtures=5"])
    elif words[2] == "recipes.listening":
        recipes.listening.main([str(path) for word in words[3:] for path in sorted(Path().glob(word)) or [word]])
    elif words[2] == "recipes.conformance":
        with pytest.raises(SystemExit) as stopped:
            recipes.conformance.main(words[3:])
        assert stopped.value.code == 0
    else:
        pytest.fail(f"nobody runs {words}")


def answer_study() -> None:
    """What a listener of the documented study sends back."""
    key = json.loads(Path("results/study.key.json").read_text())
    given = [{"stimulus": one, "quality": 100, "relevance": 40} for one in key["stimuli"]]
    Path("ratings").mkdir()
    Path("ratings/ann.json").write_text(json.dumps({"study": key["study"], "rater": "ann", "ratings": given}))


def run_notebook(monkeypatch) -> dict:
    """The names that the notebook's cells define, with something that counts its players in Jupyter's place."""
    shown = []
    jupyter = SimpleNamespace(Audio=lambda data, rate, normalize: len(data) / rate, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", jupyter)
    notebook = json.loads((ROOT / "docs/examples/explain.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    names = {"shown": shown}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "a notebook is kept without its outputs"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    return names


def test_the_tutorial_and_the_plug_ins_run_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("hparams", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    ran = 0
    for page in (ROOT / f"docs/{name}.md" for name in ("tutorial", "plugins", "listening")):
        names: dict = {}
        for language, text in blocks(page, "bash", "python"):
            if language == "python":
                exec(compile(text, str(page), "exec"), names)
                ran += 1
            for words in commands(text) if language == "bash" else ():
                if "--aggregate" in words:
                    answer_study()
                run(words, monkeypatch)
                ran += 1
    assert ran >= 18
    assert Path("results/demo_lmac/1234/audio/5-00004-M/explanation.json").is_file()
    assert soundfile.info("relevant.wav").frames == 32000
    told = capsys.readouterr().out
    assert "of the relevant part alone 0." in told
    assert "1 listeners, 2 clips; screened out" in told
    names = run_notebook(monkeypatch)
    assert names["shown"] == [2.0] * 3
    assert names["heard"].label in names["classifier"].info.class_names
    assert names["other"].target == names["second"] != names["heard"].target
    assert names["answer"].method == "demo_lmac" and len(names["axes"][1].images) == 1
    for module in ("band_occlusion", "spectral_shape"):
        del sys.modules[module]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_documented_command_is_one(page, monkeypatch):
    """Its recipe exists and knows its keys, or its module knows its arguments."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "docs/examples")
    for words in python_commands(page):
        if words[1] == "-m":
            words = [*words[:2], *left_for_the_recipe(importlib.import_module(words[2]), words[3:], monkeypatch)]
            if len(words) == 2:
                continue
        if words[1] in COMMANDS and answer(words[2:], words[1]) is not None:
            continue
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        text = Path(words[2]).read_text(encoding="utf-8")
        needed = set(re.findall(r"^(\w+): !PLACEHOLDER", text, re.M)) - given
        load_recipe([*words[2:], *(f"--{key}=somewhere" for key in needed)])
    assert page not in OWN[:3:2] or python_commands(page)


def test_a_documented_option_that_a_tool_lacks_is_found(monkeypatch):
    kills = importlib.import_module("tools.kills")
    assert left_for_the_recipe(kills, ["--kills=50", "--seed=1"], monkeypatch) == []
    assert left_for_the_recipe(kills, ["--kill=50"], monkeypatch) == ["--kill=50"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links or page not in OWN
    for link in links:
        if "://" in link:
            address = urlparse(link)
            assert address.scheme == "https" and "." in address.netloc, link
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists() and ROOT in [target, *target.parents], f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slug, headings), f"{page.name} links to {link}"


def test_the_recipe_of_the_page_on_yaml_is_one(tmp_path):
    ((_, text),) = blocks(ROOT / "docs/yaml.md", "yaml")
    (tmp_path / "mine.yaml").write_text(text.replace("extends: ", f"extends: {ROOT / 'hparams'}/"), encoding="utf-8")
    recipe = load_recipe([str(tmp_path / "mine.yaml"), "--data_folder=somewhere", "--outside=0.5"])
    settings = recipe.build()
    assert (recipe.values["experiment"], recipe.values["epochs"]) == ("my_lmac", 20)
    assert settings["optimizer"].keywords == {"lr": 0.1}
    interpreter = settings["interpreter"]["interpreter"].keywords
    assert (interpreter["inside"], interpreter["outside"]) == (2.0, 0.5)


def test_the_documented_keys_are_those_of_recipes_and_their_blocks():
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/yaml.md").read_text(encoding="utf-8"), re.M)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "hparams").rglob("*.yaml")]
    keys = {key for text in files for key in re.findall(r"^(\w+):", text, re.M)}
    # arguments of the objects that blocks are put together from; groups of settings have keys of the block in them
    parts = [path.read_text(encoding="utf-8") for path in (ROOT / "hparams/interpreters").glob("*.yaml")]
    keys |= {key for text in parts for key in re.findall(r"^    (\w+): (?!!ref|!new:)", text, re.M)}
    assert documented | {"extends"} == keys


def test_the_citation_names_the_papers_that_the_readme_links():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {one["url"] for one in cited["references"]} == set(re.findall(r"https://arxiv.org/abs/[\d.]+", readme))
    assert f'version = "{cited["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
