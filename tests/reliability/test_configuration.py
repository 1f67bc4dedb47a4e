"""Bad configuration through the real scripts: exit code 2, one line, every problem in it, and nothing slow begun."""

import csv
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import soundfile

from models.bundle import FILES, build_trusted, read_info, save_bundle
from tools.processes import TINY, Command, finish
from tools.runner import ROOT

CNN14 = """
frontend: &frontend !new:models.frontend.FrontEnd
classifier: !new:models.classifier.AudioClassifier
  frontend: *frontend
  adapter: !new:models.adapters.MelAdapter
    frontend: *frontend
  backbone: !new:models.cnn14.CNN14
    width: 0.0625
  head: !name:models.classifier.CosineHead
    num_classes: 10
"""
NOWHERE = "no trained classifier at nowhere: make one with"


@pytest.fixture
def refused(tiny, tmp_path):
    """(command, *changes) -> what a command line that cannot be run is told."""

    def run(command: Command, *changes: str) -> str:
        code = finish([*command.line(tmp_path), *changes], tmp_path / "log")
        text = (tmp_path / "log").read_text()
        assert code == 2, text
        assert "Traceback" not in text
        (told,) = text.splitlines()
        assert told.startswith("error: ")
        assert not list((tmp_path / "cache").glob("*/samples.i16"))  # nothing was decoded
        assert not (tmp_path / "out").exists()
        return told

    return run


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("train", "--epoch=1", "has no key 'epoch'; did you mean --epochs?"),
        ("train", "--batch_size=ten", "batch_size='ten' must be a whole number of 1 or more"),
        ("train", "--epochs=0", "epochs=0 must be a whole number of 1 or more"),
        ("train", "--margin=1.5", "margin=1.5 must be a number in [0, 1]"),
        ("train", "--loss=angular", "loss='angular' must be additive_margin, additive_angular_margin, "),
        ("train", "--loss=cross_entropy", "loss=cross_entropy has no margin, and margin=0.2: pass --margin=0"),
        ("train", "--loss=cross_entropy --margin=0", "takes the raw cosines, and logit_scale=30 multiplies them"),
        ("train", "--valid_folds=[3]", "train_folds and valid_folds share fold 3; they must be disjoint"),
        ("train", "--test_folds=[9]", "test_folds names [9], which synthetic lacks: choose from [1, 2, 3, 4, 5]"),
        ("train", "--num_classes=50", "has 10 classes, not 50: pass --num_classes=10"),
        ("train", "--precision=fp16", "precision=fp16 needs a GPU; on a CPU pass fp32 or bf16"),
        ("train", '--model={"imagesize":3}', "has no key 'imagesize'; did you mean --image_size?"),
        ("train", '--model={"weights":/nowhere/at/all}', "weights='/nowhere/at/all' could not be loaded"),
        ("interpret", "--quantile=1.5", "has no key 'quantile'"),
        ("interpret", "--classifier=nowhere", NOWHERE),
        ("interpret", "--contamination=whit", "contamination is 'whit': did you mean white?"),
        ("interpret", "--contamination=noise", "contamination noise draws from a folder of sound files: give its path"),
        ("interpret", "--train_noise=speech", "contamination speech draws from a folder of sound files: give its path"),
        ("interpret", "--noise_folder=nowhere --contamination=noise", "nowhere is not a folder"),
        ("interpret", "--audio=gone.wav", "gone.wav does not exist or is not a file"),
        ("interpret", "--start_from=nowhere", "start_from=nowhere is no run with a trained interpreter"),
        ("interpret", "--data_folder=/etc", "/etc must hold exactly one meta/*.csv beside audio/"),
    ],
)
def test_one_problem_is_one_sentence(tiny, refused, name, change, told):
    assert told in refused(tiny[name], *change.split())


@pytest.mark.parametrize(
    ("recipe", "change", "told"),
    [
        ("modulation", "--quantile=[0.5,1.5]", "quantile=[0.5, 1.5] must be a number in [0, 1] or a list of them"),
        ("lmac_td", "--alpha=-1", "alpha=-1 must be a number in [0, 1]"),
        ("lmac_td", "--chunk=0", "chunk=0 must be a whole number of 1 or more"),
        ("occlusion", "--bands=0", "bands=0 at least 1"),
        ("gradient", "--method=none", "method='none' must be one of"),
    ],
)
def test_a_methods_own_settings_are_checked(refused, trained, data, recipe, change, told):
    yaml = str(ROOT / "hparams" / f"{recipe}.yaml")
    line = (yaml, f"--classifier={trained / 'classifier'}", f"--data_folder={data}", "--device=cpu", change)
    assert told in refused(Command("interpret.py", line, recipe))


def test_all_problems_are_told_at_once(tiny, refused):
    changes = ("--epoch=1", "--seed=x", "--batch_size=0", "--train_folds=[1,5]", "--classifier=nowhere")
    told = refused(tiny["interpret"], *changes, "--contamination=whit", "--audio=gone.wav", "--precision=fp16")
    for part in (
        "has no key 'epoch'; did you mean --epochs?",
        "seed='x' must be",
        "batch_size=0 must be",
        "train_folds and test_folds share fold 5",
        "precision=fp16 needs a GPU",
        "did you mean white?",
        "gone.wav does not exist",
    ):
        assert part in told


def test_a_check_waits_where_what_it_reads_is_wrong_itself(tiny, refused):
    told = refused(tiny["interpret"], "--contamination=3", "--classifier=")
    assert "contamination=3 must be a kind of contamination or a list of them" in told
    assert "classifier=None must be a path" in told
    assert told.count(";") == 1


def test_a_hop_of_0_is_refused(tiny, refused, tmp_path):
    block = (ROOT / "hparams/classifiers/focalnet_network.yaml").read_text()
    block = block.replace("models.frontend.FrontEnd", "models.frontend.FrontEnd\n    hop_ms: 0.0")
    (tmp_path / "block.yaml").write_text(block)
    recipe = TINY.read_text().replace("../../hparams/classifiers/focalnet_network.yaml", str(tmp_path / "block.yaml"))
    (tmp_path / "mine.yaml").write_text(recipe.replace("../../hparams", str(ROOT / "hparams")))
    line = (str(tmp_path / "mine.yaml"), *tiny["train"].arguments[1:])
    assert "hop_ms=0.0 (0 samples), window_ms" in refused(Command("train.py", line, "tiny"))


def test_a_classifier_without_what_the_interpreter_needs_is_refused(refused, data, trained, tmp_path):
    network = build_trusted(CNN14, "here")["classifier"]
    folder = save_bundle(tmp_path / "cnn14", network, CNN14, read_info(trained / "classifier", "classifier"))
    line = (str(ROOT / "hparams/modulation.yaml"), f"--data_folder={data}", "--device=cpu", f"--classifier={folder}")
    told = refused(Command("interpret.py", line, "modulation"))
    assert "has no modulation of its own to show: choose another classifier, or a method that fits every" in told


def test_a_bundle_of_other_classes_is_refused_before_anything_is_decoded(tiny, refused, data, tmp_path):
    other = tmp_path / "other"
    (other / "meta").mkdir(parents=True)
    (other / "audio").symlink_to(data / "audio")
    table = (data / "meta/synthetic.csv").read_text().replace("siren", "alarm")
    (other / "meta/other.csv").write_text(table)
    told = refused(tiny["interpret"], f"--data_folder={other}", "--valid_folds=[9]")
    assert f"does not fit {other}: the classes of other must be the 10 of the classifier by name" in told
    assert "other lacks siren and other has alarm besides" in told
    assert "valid_folds names [9]" in told


# strangers' bundles and names


def copied(bundle: Path, folder: Path, **files: str) -> Path:
    """A bundle with some files written anew and their sums put right, as whoever forges one would."""
    shutil.copytree(bundle, folder)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    content = json.loads((folder / "bundle.json").read_text())
    content["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / "bundle.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_a_bundles_folder_is_refused(tiny, refused, trained, tmp_path, name):
    folder = copied(trained / "classifier", tmp_path / "copy")
    (folder / name).unlink()
    (folder / name).symlink_to(trained / "classifier" / name)
    told = refused(tiny["interpret"], f"--classifier={folder}")
    assert told == f"error: {folder / name} is a link out of the bundle's folder: put the file itself there"


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("classifier: !apply:os.system [touch {ran}]", "asks for '!apply:os.system', which a bundle may not build"),
        ("classifier: !new:subprocess.Popen [[touch, {ran}]]", "asks for '!new:subprocess.Popen', which a bundle may"),
        ("a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b]\n"
         "d: [*c, *c, *c, *c, *c, *c, *c, *c]", "unfolds to more than 2000 nodes and was not read"),
    ],
)  # fmt: skip
def test_a_hostile_bundle_is_refused_through_the_script(tiny, refused, trained, tmp_path, yaml, told):
    folder = copied(trained / "classifier", tmp_path / "copy", model_yaml=yaml.format(ran=tmp_path / "ran"))
    assert told in refused(tiny["interpret"], f"--classifier={folder}")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_weights_is_refused_and_does_not_run(tiny, refused, trained, tmp_path):
    folder = copied(trained / "classifier", tmp_path / "copy")
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Touching(tmp_path / "ran")))
    assert "weights.safetensors does not fit its model.yaml" in refused(
        tiny["interpret"], f"--classifier={copied(folder, tmp_path / 'again')}"
    )
    assert not (tmp_path / "ran").exists()


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


HOSTILE = "<img src=x onerror=alert(1)>\"'"


def test_hostile_class_and_file_names_reach_the_report_as_text(tiny, data, tmp_path):
    folder = tmp_path / "hostile"
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    with (data / "meta/synthetic.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        sound, rate = soundfile.read(data / "audio" / row["filename"])
        row["filename"] = f"{HOSTILE}{row['filename']}".replace(".flac", ".wav")
        row["category"] = f"{HOSTILE}{row['category']}"
        soundfile.write(folder / "audio" / row["filename"], sound, rate, format="WAV")
    with (folder / "meta/set.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    train, changed = tiny["train"], f"--data_folder={folder}"
    assert finish([*train.line(tmp_path), changed, "--epochs=1"], tmp_path / "log") == 0, (tmp_path / "log").read_text()
    line = (str(ROOT / "hparams/modulation.yaml"), "--device=cpu", "--report_clips=3", changed)
    explain = Command("interpret.py", (*line, f"--classifier={train.run(tmp_path) / 'classifier'}"), "modulation")
    assert finish(explain.line(tmp_path), tmp_path / "log") == 0, (tmp_path / "log").read_text()
    run = tmp_path / "out/modulation/1234"
    text = (run / "report.html").read_text()
    assert "<img src=x" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") > 20
    for picture in run.rglob("*.svg"):
        assert "<img" not in picture.read_text()
    assert all(Path(path).resolve().is_relative_to(run) for path in run.rglob("*"))
