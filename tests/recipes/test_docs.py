"""The documentation: its commands and programs run, its recipes exist, its links lead somewhere."""

import functools
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import soundfile

import recipes.synthetic
import tests.conformance
from recipes.classification import train_classifier
from recipes.config import load_recipe
from recipes.interpretation import run_interpreter

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
OWN = [ROOT / "docs" / f"{name}.md" for name in ("tutorial", "methods", "plugins", "yaml")]
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
        run_interpreter(load_recipe([*words[2:], *trained, "--report_clips=0", "--eval_batch_size=4"]))
    elif words[2] == "recipes.synthetic":
        recipes.synthetic.main([words[3], "--clips_per_class=5", "--mixtures=0"])
    elif words[2] == "tests.conformance":
        with pytest.raises(SystemExit) as stopped:
            tests.conformance.main(words[3:])
        assert stopped.value.code == 0
    else:
        pytest.fail(f"nobody runs {words}")


def test_the_tutorial_and_the_plug_ins_run_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("hparams", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    noise = 0.1 * np.random.default_rng(0).standard_normal((48000, 2))
    soundfile.write("siren.wav", noise, 22050)
    ran = 0
    for page in (ROOT / "docs/tutorial.md", ROOT / "docs/plugins.md"):
        names: dict = {}
        for language, text in blocks(page, "bash", "python"):
            if language == "python":
                exec(compile(text, str(page), "exec"), names)
                ran += 1
            for words in commands(text) if language == "bash" else ():
                run(words, monkeypatch)
                ran += 1
    assert ran >= 16
    assert Path("results/demo_lmac/1234/audio/siren/explanation.json").is_file()
    assert soundfile.info("relevant.wav").frames == -(-48000 * 16000 // 22050)
    assert "of the relevant part alone 0." in capsys.readouterr().out
    for module in ("band_occlusion", "spectral_shape"):
        del sys.modules[module]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_documented_command_is_one(page, monkeypatch):
    """Its recipe exists and knows its keys, or its module can be run."""
    monkeypatch.chdir(ROOT)
    for words in python_commands(page):
        if words[1] == "-m":
            assert (ROOT / (words[2].replace(".", "/") + ".py")).is_file(), words
            continue
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        text = Path(words[2]).read_text(encoding="utf-8")
        needed = set(re.findall(r"^(\w+): !PLACEHOLDER", text, re.M)) - given
        load_recipe([*words[2:], *(f"--{key}=somewhere" for key in needed)])
    assert page not in OWN[:3:2] or python_commands(page)


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


@functools.cache
def recipe_keys() -> set[str]:
    return {
        key for path in (ROOT / "hparams").rglob("*.yaml") for key in re.findall(r"^(\w+):", path.read_text(), re.M)
    }


def test_the_documented_keys_are_those_of_recipes():
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/yaml.md").read_text(encoding="utf-8"), re.M)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert len(documented) > 40
    assert documented - recipe_keys() == set()
    top_level = {
        key
        for path in (ROOT / "hparams").glob("*.yaml")
        for key in re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), re.M)
    }
    assert top_level - documented == {"extends"}
