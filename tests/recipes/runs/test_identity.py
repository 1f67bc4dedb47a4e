"""What a run reads beside its recipe, hash by hash."""

import shutil
import sys
from pathlib import Path

import pytest
from recipe_files import HPARAMS, KINDS, TINY
from tones import SMALL, Tones, files, read

from recipes.config.yaml_text import parse
from recipes.runs.identity import file_hash, named_modules, named_paths, source_of
from tests.helpers import refusal

STAIRS = """
from recipes.training.schedules import WarmupCosine

class Stairs(WarmupCosine):
    factor = 1
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> Path:
    """The file of a module `stairs` with a schedule."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "stairs.py").write_text(STAIRS)
    monkeypatch.syspath_prepend(folder)
    yield folder / "stairs.py"
    sys.modules.pop("stairs", None)


def test_weights_that_changed_under_the_same_path_are_refused(train, tones, tiny_ast, tmp_path):
    weights = tmp_path / "published"
    shutil.copytree(tiny_ast, weights)
    recipe, changes = KINDS["ast"]
    small = ("--num_classes=3", "--clip_seconds=0.5", "--batch_size=6", f"--data_folder={tones.folder}")
    given = (HPARAMS / recipe, tmp_path / "out", *small, changes[0], f"--weights={weights}")
    run = train(*given)
    assert read(run / "identity.json")["files"] == {str(weights): file_hash(weights)}
    (weights / "model.safetensors").touch()
    assert train(*given) == run  # the same content
    before = files(run)
    with (weights / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    assert f"holds checkpoints of another configuration ({weights}: " in refusal(train, *given)
    assert files(run) == before


def test_a_module_of_ones_own_that_changed_is_refused(train, tones, own_module, tmp_path):
    recipe = tmp_path / "mine.yaml"
    text = TINY.read_text().replace("../../hparams", str(HPARAMS))
    recipe.write_text(text.replace("!name:recipes.training.schedules.WarmupCosine", "!name:stairs.Stairs"))
    given = (recipe, tmp_path / "out", *SMALL, f"--data_folder={tones.folder}")
    run = train(*given)
    assert read(run / "identity.json")["files"] == {"module stairs": file_hash(own_module, "*.py")}
    own_module.write_text(STAIRS.replace("factor = 1", "factor = 2"))
    assert "holds checkpoints of another configuration (module stairs: " in refusal(train, *given)


def test_files_and_modules_are_found_wherever_a_recipe_names_them(tmp_path, own_module):
    (tmp_path / "codec.ckpt").write_bytes(b"x")
    text = f"""
weights: {tmp_path}
classifier: {tmp_path / "codec.ckpt"}
interpreter: !name:stairs.Stairs
    codecs: [{{path: {tmp_path / "codec.ckpt"}}}, {tmp_path / "absent.ckpt"}]
    parts: [!new:torch.nn.Linear {{in_features: 1}}, !ref <seed>]
"""
    content = parse(text, "mine.yaml")
    assert list(named_paths(content)) == [tmp_path, tmp_path / "codec.ckpt"]  # the classifier counts as a bundle
    assert list(named_modules(content)) == ["stairs", "torch.nn"]


def test_the_source_of_a_module_is_its_file_or_its_folder(tmp_path, own_module):
    package = own_module.parent / "parts"
    package.mkdir()
    (package / "one.py").write_text("")
    assert source_of("stairs") == own_module
    assert source_of("parts") == package  # without an __init__.py
    assert source_of("parts.one") == package / "one.py"
    assert source_of("sys") is None and source_of("nowhere_at_all") is None


def test_a_file_and_a_folder_are_hashed_by_names_and_content(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("a")
    (folder / "inner/b.txt").write_text("b")
    assert file_hash(folder / "a.py") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of "a"
    whole, python = file_hash(folder), file_hash(folder, "*.py")
    (folder / "inner/b.txt").write_text("c")
    assert file_hash(folder) != whole and file_hash(folder, "*.py") == python
    (folder / "a.py").rename(folder / "c.py")
    assert file_hash(folder, "*.py") != python


@pytest.fixture
def annotated(tones, tmp_path) -> Tones:
    """The tones with an event in the second half of every clip."""
    copy = tones.copy(tmp_path / "annotated")
    write_events(copy, start=0.25)
    return copy


def write_events(tones: Tones, start: float) -> None:
    lines = ["filename,start,end,label"]
    for row in tones.rows():
        lines.append(f"{row['filename']},{start},0.5,{row['category']}")
    (tones.folder / "events.csv").write_text("\n".join(lines) + "\n")


def test_scores_of_mixtures_rest_on_the_events_that_are_known(modulation, annotated):
    changes = (f"--data_folder={annotated.folder}", "--contamination=mixture")
    run = modulation(*changes)
    before = files(run)
    assert modulation(*changes) == run
    write_events(annotated, start=0.1)
    told = refusal(modulation, *changes)
    assert f"{run / 'mixture/metrics.json'} holds scores of another configuration (events: " in told
    assert files(run)[run / "mixture/clips.csv"] == before[run / "mixture/clips.csv"]


def test_scores_of_mixtures_rest_on_the_sounds_of_the_events_alone(modulation, tones, tmp_path):
    copy = tones.copy(tmp_path / "separate")
    (copy.folder / "truth").mkdir()
    for row in copy.rows():
        shutil.copyfile(copy.folder / "audio" / row["filename"], copy.folder / "truth" / row["filename"])
    changes = (f"--data_folder={copy.folder}", "--contamination=mixture")
    modulation(*changes)
    shutil.copyfile(copy.folder / "audio/5-mid-0.wav", copy.folder / "truth/5-low-0.wav")
    assert "(events: " in refusal(modulation, *changes)
    assert modulation(f"--data_folder={copy.folder}").is_dir()  # clean clips are scored without them
