"""The Python interface: the same answers as interpret.py, from a run's folder, a copy of it or a hub."""

import functools
import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.inference import ClassifiedSound, SoundInterpreter
from recipes.scoring.explanation import explain
from tests.helpers import refusal

STEP = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=10", "--report_clips=0")
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def run(interpret, bundle, tmp_path_factory) -> Path:
    """A run that trained L-MAC."""
    return interpret(
        HPARAMS / "lmac.yaml", tmp_path_factory.mktemp("lmac"), f"--classifier={bundle('focalnet')}", *STEP
    )


@pytest.fixture(scope="module")
def untrained(interpret, bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("modulation")
    return interpret(
        HPARAMS / "modulation.yaml", folder, f"--classifier={bundle('focalnet')}", "--report_clips=0", "--quantile=0.8"
    )


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(40000).astype(np.float32)


@pytest.fixture(scope="module")
def hub(run):
    """The address of a server that answers as the Hugging Face hub does about one repository, someone/lmac."""
    files = {f"{part}/{one.name}": one for part in ("classifier", "interpreter") for one in (run / part).iterdir()}
    files["README.md"] = run / "metrics.json"

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            name = self.path.partition(f"/resolve/{COMMIT}/")[2]
            headers, content, status = {"Content-Type": "application/json"}, b"{}", 200
            if self.path.startswith("/api/models/someone/lmac/revision/"):
                found = {"id": "someone/lmac", "sha": COMMIT, "siblings": [{"rfilename": one} for one in files]}
                content = json.dumps(found).encode()
            elif self.path.startswith(f"/api/models/someone/lmac/tree/{COMMIT}"):
                rows = [{"type": "file", "path": name, "size": 1, "oid": COMMIT} for name in files]
                content = json.dumps(rows).encode()
            elif name in files and self.path.startswith("/someone/lmac/"):
                content = files[name].read_bytes()
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            else:
                status, headers["X-Error-Code"] = 404, "RepoNotFound"
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            return content

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def online(hub, monkeypatch):
    ours = functools.partial(huggingface_hub.snapshot_download, endpoint=hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", ours)


def refused(source, *args) -> str:
    """The sentence with which a source is refused."""
    return refusal(SoundInterpreter.from_hparams, source, *args)


def test_a_file_gets_the_answer_that_interpret_gives(run, interpret, bundle, sound_file, wave, tmp_path):
    path = sound_file("heard.wav", np.stack([wave, wave], axis=1))
    given = (HPARAMS / "lmac.yaml", run.parents[1], f"--classifier={bundle('focalnet')}")
    folder = interpret(*given, f"--audio={path}")
    told = json.loads((folder / "explanation.json").read_text())
    interpreter = SoundInterpreter.from_hparams(source=str(run))
    heard = interpreter.interpret_file(path)
    assert (heard.label, heard.probability) == (
        next(iter(told["top"])),
        pytest.approx(next(iter(told["top"].values()))),
    )
    assert heard.mask.mean() == pytest.approx(told["kept"])
    assert heard.rate == interpreter.rate == 16000
    for name in ("relevant", "residual"):
        written, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        assert np.abs(np.clip(getattr(heard, name), -1, 1) - written).max() < 1e-4
    assert heard.waveform.shape == heard.relevant.shape == (40000,)
    assert np.abs(heard.waveform).max() == pytest.approx(1)
    assert heard.mask.shape[1] == 513 and heard.mask.min() >= 0 and heard.mask.max() <= 1
    classified = interpreter.classify_file(path)
    assert type(classified) is ClassifiedSound
    assert classified == ClassifiedSound(heard.label, heard.probability, heard.probabilities)
    assert tuple(classified.probabilities) == interpreter.labels
    assert sum(classified.probabilities.values()) == pytest.approx(1)


def test_probabilities_are_of_the_label_over_all_windows(run, wave):
    interpreter = SoundInterpreter.from_hparams(run)
    (heard,) = interpreter.interpret_batch([wave])
    found = explain(interpreter.subject.classifier, interpreter.interpreter, wave, 1.0)
    assert found.probabilities.shape == (3, 10)
    label = interpreter.labels.index(heard.label)
    assert heard.probability == pytest.approx(found.mean(found.probabilities)[label])
    assert heard.relevant_probability == pytest.approx(found.mean(found.relevant_probabilities)[label])
    assert heard.residual_probability == pytest.approx(found.mean(found.residual_probabilities)[label])


def test_a_batch_may_be_a_tensor_or_sounds_of_any_length_and_rate(run, wave):
    interpreter = SoundInterpreter.from_hparams(run)
    batch = torch.from_numpy(wave[:32000]).view(2, 16000)
    together = interpreter.interpret_batch(batch)
    apart = interpreter.interpret_batch([wave[:16000], wave[16000:32000]])
    assert [one.label for one in together] == [one.label for one in apart]
    assert all(np.array_equal(one.relevant, other.relevant) for one, other in zip(together, apart, strict=True))
    lengths = [len(one.waveform) for one in interpreter.interpret_batch([wave[:800], wave[:8001]], rate=8000)]
    assert lengths == [1600, 16002]
    half = batch.to(torch.bfloat16).requires_grad_()
    for one, other in zip(interpreter.interpret_batch(half), interpreter.interpret_batch(half.float()), strict=True):
        assert np.array_equal(one.waveform, other.waveform)
    with pytest.raises(UsageError, match=r"rate=22050.5 must be a whole number of Hz from 1000 to 384000"):
        interpreter.interpret_batch(batch, rate=22050.5)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros(0), np.array([0.0, np.nan]), np.array([np.inf])])
def test_what_is_no_sound_is_refused(run, wrong):
    with pytest.raises(
        UsageError, match=r"waveform 1 of shape \[.*\] must be \[samples\], one or more, all of them finite"
    ):
        SoundInterpreter.from_hparams(run).interpret_batch([np.ones(100), wrong])


def test_an_untrained_interpreter_is_kept_with_its_settings(untrained, wave):
    interpreter = SoundInterpreter.from_hparams(untrained).interpreter
    assert interpreter.quantiles == (0.8,)
    (heard,) = SoundInterpreter.from_hparams(untrained).interpret_batch([wave[:16000]])
    assert heard.mask.mean() == pytest.approx(0.2, abs=0.01)


def test_a_runs_folder_stands_alone(run, tmp_path, wave, monkeypatch):
    """Two bundles, copied elsewhere; the classifier's file is not stored twice."""
    copy = tmp_path / "elsewhere"
    for part in ("classifier", "interpreter"):
        shutil.copytree(run / part, copy / part)
    monkeypatch.chdir(tmp_path)
    (here,), (there,) = (SoundInterpreter.from_hparams(one).interpret_batch([wave]) for one in (run, "elsewhere"))
    assert np.array_equal(here.relevant, there.relevant)
    assert (run / "classifier/weights.safetensors").stat().st_nlink > 1


def test_an_older_run_finds_its_classifier_where_it_was(run, tmp_path, wave):
    shutil.copytree(run / "interpreter", tmp_path / "old/interpreter")
    assert SoundInterpreter.from_hparams(tmp_path / "old").interpret_batch([wave])[0].rate == 16000


def test_a_hub_repository_is_downloaded_and_checked(run, online, tmp_path, wave):
    interpreter = SoundInterpreter.from_hparams(source="someone/lmac", savedir=tmp_path / "kept")
    (there,), (here,) = (one.interpret_batch([wave]) for one in (interpreter, SoundInterpreter.from_hparams(run)))
    assert np.array_equal(here.relevant, there.relevant)
    assert not (tmp_path / "kept/README.md").exists()
    (tmp_path / "kept/interpreter/model.yaml").write_text("interpreter: !new:os.system [touch ran]\n")
    assert "is missing or altered" in refused(tmp_path / "kept")


def test_where_nothing_is_the_sentence_says_so(online, run, untrained, tmp_path):
    assert refused("someone/else", tmp_path).startswith("source='someone/else' is no folder, and could not be had from")
    assert refused("a/b/c") == "source='a/b/c' is no folder, and no hub repository of the form someone/name"
    (tmp_path / "empty").mkdir()
    assert "is not a bundle" in refused(tmp_path / "empty")
    shutil.copytree(run / "classifier", tmp_path / "half/classifier")
    assert "no trained interpreter at" in refused(tmp_path / "half")


def test_an_interpreter_of_another_classifier_is_refused(run, bundle, tmp_path):
    shutil.copytree(run / "interpreter", tmp_path / "mixed/interpreter")
    shutil.copytree(bundle("cnn14"), tmp_path / "mixed/classifier")
    with pytest.raises(UsageError):
        SoundInterpreter.from_hparams(tmp_path / "mixed")
