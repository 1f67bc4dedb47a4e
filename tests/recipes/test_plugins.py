"""Plugging in from outside: modules that no package of this project knows, found on the path, named in a YAML."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recipe_files import HPARAMS

from models.bundle import load_bundle
from recipes import adopt
from recipes.conformance import main
from recipes.inference import SoundInterpreter
from tests.helpers import refusal

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
SMALL = ("--batch_size=10", "--clip_seconds=1.0")
LEARNED = """
import torch
from interpreters.base import Interpreter, masked

class Equaliser(Interpreter):
    trainable = True

    def __init__(self, info):
        super().__init__(info)
        self.gains = torch.nn.Parameter(torch.zeros(info.n_fft // 2 + 1))

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        return masked(spectrogram, self.gains.sigmoid().expand_as(spectrogram.log_magnitude), target)

    def loss(self, classifier, spectrogram, evidence, clean=None):
        heard = classifier(self.interpret(classifier, spectrogram, evidence).relevant)
        return {"inside": 1 - heard.probabilities.gather(1, evidence.prediction.unsqueeze(1)).squeeze(1)}
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """(name, source) -> nothing; the module can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


@pytest.fixture
def examples(outside):
    for path in EXAMPLES.glob("*.py"):
        outside(path.stem, path.read_text())


@pytest.fixture
def classified(examples, train, tmp_path) -> Path:
    """A run of train.py with the example's classifier."""
    return train(EXAMPLES / "spectral_shape.yaml", tmp_path / "out", *SMALL, "--epochs=2")


def test_a_classifier_of_ones_own_is_trained_kept_and_explained(classified, interpret, tmp_path):
    facts = json.loads((classified / "metrics.json").read_text())
    assert facts["classifier"] == {"recipe": "spectral_shape", "weights": "from scratch"}
    assert "fa_raw_cosine" not in facts["metrics"]
    path = classified / "classifier"
    told = refusal(load_bundle, path, "classifier")
    assert told.startswith(
        f"{path}/model.yaml asks for '!new:spectral_shape.SpectralShape', which a bundle may not build"
    )
    assert told.endswith("; trust=[spectral_shape] lets in a module of your own")
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--report_clips=0", "--batch_size=10")
    given = (HPARAMS / "lmac.yaml", tmp_path / "out", f"--classifier={path}", *step)
    assert refusal(interpret, *given) == told
    run = interpret(*given, "--trust=[spectral_shape]")
    assert refusal(SoundInterpreter.from_hparams, run).endswith(told.partition("asks")[2])
    explained = SoundInterpreter.from_hparams(run, trust=["spectral_shape"])
    assert explained.interpret_batch([np.ones(16000)])[0].label in explained.labels


def test_an_interpreter_of_ones_own_is_scored_kept_and_loaded(examples, interpret, bundle, sound_file, tmp_path):
    classifier = f"--classifier={bundle('cnn14')}"
    given = (EXAMPLES / "band_occlusion.yaml", tmp_path / "out", classifier, "--report_clips=1", "--bands=4")
    run = interpret(*given)
    facts = json.loads((run / "metrics.json").read_text())
    assert facts["interpreter"]["class"] == "BandOcclusion"
    assert 0 <= facts["metrics"]["fid_i"] <= 1
    assert (run / "report.html").is_file()
    told = refusal(SoundInterpreter.from_hparams, run)
    assert "asks for '!name:band_occlusion.BandOcclusion', which a bundle may not build" in told
    interpreter = SoundInterpreter.from_hparams(run, trust=["band_occlusion"]).interpreter
    assert (type(interpreter).__name__, interpreter.bands) == ("BandOcclusion", 4)
    noise = sound_file("noise.wav", 0.1 * np.random.default_rng(0).standard_normal(16000))
    assert (interpret(*given, f"--audio={noise}") / "relevant.wav").is_file()


def test_a_trained_interpreter_of_ones_own_goes_through_its_bundle(outside, interpret, bundle, tmp_path):
    outside("equaliser", LEARNED)
    recipe = tmp_path / "mine.yaml"
    block = "interpreter.interpreter: !name:equaliser.Equaliser"
    recipe.write_text(f"extends: {HPARAMS / 'lmac.yaml'}\ntrust: [equaliser]\n{block}\n")
    given = (
        recipe,
        tmp_path / "out",
        f"--classifier={bundle('cnn14')}",
        "--epochs=1",
        "--batch_size=10",
        "--report_clips=0",
    )
    assert "'!name:equaliser.Equaliser', which a bundle may not build" in refusal(interpret, *given, "--trust=[]")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("CKPT*"))
    run = interpret(*given)
    before = json.loads((run / "metrics.json").read_text())["metrics"]
    assert json.loads((interpret(*given, "--test_only") / "metrics.json").read_text())["metrics"] == before


def test_a_hugging_face_classifier_is_fine_tuned_or_explained_as_it_is(
    bundle, tiny_ast, interpret, sound_file, tmp_path
):
    """The documented route, with a small network of random weights in the place of a published one."""
    step = ("--debug", "--debug_batches=1", "--report_clips=1", "--eval_batch_size=4")
    run = interpret(HPARAMS / "attention_ast.yaml", tmp_path / "out", f"--classifier={bundle('ast')}", *step)
    facts = json.loads((run / "metrics.json").read_text())
    assert facts["classifier"]["classifier"]["weights"] == str(tiny_ast)
    tuned = SoundInterpreter.from_hparams(run)
    assert len(tuned.labels) == 10
    noise = sound_file("noise.wav", 0.1 * np.random.default_rng(0).standard_normal(32000))
    assert tuned.interpret_file(noise).mask.mean() == pytest.approx(0.1, abs=0.01)
    adopt.main([str(tiny_ast), str(tmp_path / "published/1234"), "--clip_seconds=1"])
    given = (HPARAMS / "attention.yaml", tmp_path / "out", f"--classifier={tmp_path}/published/1234/classifier")
    told = json.loads((interpret(*given, f"--audio={noise}") / "explanation.json").read_text())
    assert set(told["top"]) == {"Speech", "Dog", "Rain"}
    assert [window["start_seconds"] for window in told["windows"]] == [0, 1]


def test_conformance_is_a_command(examples, classified, bundle, arguments, tmp_path, capsys):
    """For both kinds of recipe, and with a sentence for what lacks."""

    def run(*given) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments(*given))
        return stopped.value.code, capsys.readouterr().out.strip()

    assert run(EXAMPLES / "spectral_shape.yaml", tmp_path) == (0, "conforms")
    occlusion = (EXAMPLES / "band_occlusion.yaml", tmp_path, f"--classifier={classified}/classifier")
    assert run(*occlusion, "--trust=[band_occlusion,spectral_shape]") == (0, "conforms")
    modulation = (HPARAMS / "modulation.yaml", tmp_path, f"--classifier={bundle('cnn14')}")
    code, told = run(*modulation)
    assert code == 1
    assert told.startswith("It cannot be made with `info`: QuantileMap needs native_map of a classifier")


def test_the_command_finds_a_module_on_the_path(bundle, corpus, tmp_path):
    """As a user outside the repository would call it."""
    (tmp_path / "band_occlusion.py").write_text((EXAMPLES / "band_occlusion.py").read_text())
    text = (EXAMPLES / "band_occlusion.yaml").read_text()
    (tmp_path / "band_occlusion.yaml").write_text(text.replace("../../hparams", str(HPARAMS)))
    command = [sys.executable, str(ROOT / "interpret.py"), "band_occlusion.yaml", f"--data_folder={corpus}"]
    command += [f"--classifier={bundle('cnn14')}", "--report_clips=0", "--device=cpu", "--bands=2", "--noprogressbar"]
    command += ["--debug", "--debug_batches=1"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "results/band_occlusion/1234/interpreter/bundle.json").is_file()
