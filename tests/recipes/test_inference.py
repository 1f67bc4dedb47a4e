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
from matplotlib.figure import Figure
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes import inference
from recipes.inference import ClassifiedSound, SoundInterpreter, explain, open_classifier, tune_process
from recipes.scoring import explanation
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
    found = explanation.explain(interpreter.subject.classifier, interpreter.interpreter, wave, 1.0)
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


# one sound, three lines


@pytest.fixture(scope="module")
def classifier(bundle):
    return open_classifier(bundle("focalnet"))


@pytest.fixture(scope="module")
def stereo() -> np.ndarray:
    """Two channels of 1.5 s at 22.05 kHz, [N, 2], 16-bit values."""
    samples = np.random.default_rng(3).uniform(-0.5, 0.5, (33075, 2))
    return np.round(samples * 32768) / 32768


def test_a_sound_is_explained_in_three_lines(bundle, stereo, tmp_path):
    soundfile.write(tmp_path / "heard.wav", stereo, 22050)
    heard = explain(bundle("focalnet"), tmp_path / "heard.wav", method="gradient", quantile=0.8)
    run = explain(bundle("focalnet").parent, str(tmp_path / "heard.wav"), method="gradient", quantile=0.8)
    assert np.array_equal(heard.mask, run.mask)
    assert heard.target == heard.label == max(heard.probabilities, key=heard.probabilities.get)
    assert heard.method == "gradient"
    assert heard.mask.mean() == pytest.approx(0.2, abs=0.02)
    assert heard.mask.shape == (24000 // 186 + 1, 513)
    assert heard.times[[0, 1, -1]] == pytest.approx([0, 186 / 16000, 186 * 129 / 16000])
    assert heard.frequencies[[0, 1, -1]].tolist() == [0, 15.625, 8000]
    assert heard.relevant + heard.residual == pytest.approx(heard.waveform, abs=1e-4)


def test_a_process_is_tuned_where_it_asks_for_it_alone(classifier, wave, monkeypatch):
    done = []
    monkeypatch.setattr(inference, "multiply_by_onednn", lambda: done.append("products"))
    monkeypatch.setattr(inference, "keep_freed_memory", lambda: done.append("memory"))
    explain(classifier, wave, rate=16000)
    assert done == []
    tune_process()
    assert done == ["products", "memory"]


def test_every_form_of_a_sound_gives_the_same_answer(classifier, stereo, tmp_path):
    soundfile.write(tmp_path / "heard.wav", stereo, 22050)
    expected = explain(classifier, tmp_path / "heard.wav", method="modulation")
    mono = stereo.mean(axis=1)
    forms = [
        {"sound": stereo, "rate": 22050},
        {"sound": stereo.T, "rate": 22050},
        {"sound": torch.from_numpy(stereo.T), "rate": 22050},
        {"sound": torch.from_numpy(stereo).float().requires_grad_(), "rate": 22050.0},
        {"sound": (stereo * 32768).astype(np.int16), "rate": 22050},
        {"sound": torch.from_numpy((stereo.T * 32768).astype(np.int16)), "rate": 22050},
        {"sound": mono, "rate": 22050},
        {"sound": mono[None], "rate": 22050},
        {"sound": mono.tolist(), "rate": 22050},
        {"sound": (stereo, 22050)},  # as soundfile.read returns it
        {"sound": (torch.from_numpy(stereo.T), 22050)},  # as torchaudio.load returns it
        {"sound": {"array": mono, "sampling_rate": 22050, "path": None}},  # as datasets has it
    ]
    for form in forms:
        heard = explain(classifier, method="modulation", **form)
        assert heard.waveform == pytest.approx(expected.waveform, abs=1e-4), form
        assert heard.label == expected.label


@pytest.mark.parametrize(
    ("sound", "rate", "sentence"),
    [
        (np.zeros(100), None, "rate is missing"),
        (np.zeros(100), 16000.5, "must be a whole number of Hz"),
        (np.zeros(100), True, "must be a whole number of Hz"),
        (np.zeros(100), float("nan"), "rate=nan must be a whole number of Hz"),
        (np.zeros(100), float("inf"), "rate=inf must be a whole number of Hz"),
        (np.zeros(100), "16000", "rate='16000' must be a whole number of Hz"),
        (np.full(100, 32768, np.uint16), 16000, "whole numbers of type uint16 has no known full scale"),
        ([0, 32767] * 50, 16000, "whole numbers of type int64 has no known full scale"),
        (np.zeros(100), 3, "must be a whole number of Hz"),
        (np.zeros((30, 16000)), 16000, r"of shape \[30, 16000\] may have its samples on either side"),
        (np.zeros((2, 3)), 16000, r"of shape \[2, 3\] may have its samples on either side"),
        (np.zeros((1, 2, 16000)), 16000, r"of shape \[1, 2, 16000\] must be"),
        (np.zeros(0), 16000, "one or more samples, all of them finite"),
        (np.array([0.1, np.inf] * 50), 16000, "one or more samples, all of them finite"),
        (["a", "b"], 16000, "holds no waveform"),
        ((np.zeros(100), 8000), 16000, "comes with 8000 Hz"),
        ({"audio": 1}, 16000, "needs array and sampling_rate"),
        ("gone.wav", None, "gone.wav does not exist"),
        ("gone.wav", 16000, "whose file says its own"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_at_once(classifier, sound, rate, sentence):
    with pytest.raises(UsageError, match=sentence):
        explain(classifier, sound, method="modulation", rate=rate)


def test_a_batch_that_is_one_sound_of_channels_is_refused(run):
    interpreter = SoundInterpreter.from_hparams(run)
    for call in (interpreter.interpret_batch, interpreter.classify_batch):
        with pytest.raises(UsageError, match=r"of shape \[500000, 2\] look like one sound of 2 channels"):
            call(np.zeros((500_000, 2), np.float32))


def test_a_batch_that_is_one_sound_is_refused(run, wave):
    interpreter = SoundInterpreter.from_hparams(run)
    for sound in (wave, torch.from_numpy(wave)):
        with pytest.raises(UsageError, match=r"of shape \[\d+\] is one sound: give \[sounds, samples\]"):
            interpreter.interpret_batch(sound)


def test_several_quantiles_are_refused_in_python_too(classifier, wave):
    with pytest.raises(UsageError, match=r"quantile=\[0.5, 0.9\]: a sound is explained at one, such as quantile=0.5"):
        explain(classifier, wave, "gradient", rate=16000, quantile=[0.5, 0.9])


def test_a_batch_is_classified_as_it_is_explained(run, wave):
    interpreter = SoundInterpreter.from_hparams(run)
    sounds = [wave[:16000], wave[:9000]]
    explained = interpreter.interpret_batch(sounds, rate=8000)
    for classified, heard in zip(interpreter.classify_batch(sounds, rate=8000), explained, strict=True):
        assert type(classified) is ClassifiedSound
        assert classified.probabilities == pytest.approx(heard.probabilities, abs=1e-6)


def test_a_class_of_ones_choice_and_its_runner_up(classifier, wave):
    heard = explain(classifier, wave, method="gradient", rate=16000)
    other = next(name for name in classifier.info.class_names if name != heard.label)
    asked = explain(classifier, wave, method="gradient", target=other, rate=16000)
    by_index = explain(classifier, wave, "gradient", classifier.info.class_names.index(other), 16000)
    assert (asked.label, asked.target) == (heard.label, other)
    assert np.array_equal(asked.mask, by_index.mask) and not np.array_equal(asked.mask, heard.mask)
    listed = {shares.name: shares for shares in asked.classes}
    assert {other, heard.label} <= set(listed)
    assert {name for name, share in asked.probabilities.items() if share >= 0.1} <= set(listed)
    assert asked.relevant_probability == listed[other].relevant
    assert asked.residual_probability == listed[other].residual
    with pytest.raises(UsageError, match="target='rooste' is no class"):
        explain(classifier, wave, target="rooste", rate=16000)


def test_methods_go_by_their_recipes_name(classifier, wave, run, tmp_path):
    assert explain(classifier, wave, HPARAMS / "grad_cam.yaml", rate=16000).method == "grad_cam"
    trained = explain(classifier, wave, method=run, rate=16000)
    (expected,) = SoundInterpreter.from_hparams(run).interpret_batch([wave])
    assert np.array_equal(trained.mask, expected.mask)
    assert trained.method == "lmac"
    for method, settings, sentence in (
        ("gradcam", {}, "method='gradcam' is no recipe of hparams, .*; did you mean 'grad_cam'"),
        ("lime", {"samples": "many"}, r"^hparams/lime\.yaml: .*: samples='many' must be a whole number$"),
        ("grad_cam", {"chunk": True}, "chunk=True must be a whole number of 1 or more"),
        ("grad_cam", {"quantil": 0.5}, "has no key 'quantil'; did you mean --quantile"),
        ("grad_cam", {"quantile": 2}, "quantile=2 must be a number in"),
        ("lmac", {}, r"lmac is trained .* method='results/lmac/1234'"),
        ("focalnet", {}, "trains a classifier"),
        (run, {"quantile": 0.5}, "quantile cannot be changed"),
    ):
        with pytest.raises(UsageError, match=sentence):
            explain(classifier, wave, method, rate=16000, **settings)


def test_any_module_that_conforms_is_explained_and_left_as_it_was(focalnet, wave):
    focalnet.train()
    heard = explain(focalnet, wave, method="grad_cam", target="class 3", rate=16000)
    assert heard.target == "class 3" and heard.mask.shape == (40000 // 186 + 1, 513)
    assert len(heard.answer.starts) == 1
    assert all(part.training for part in focalnet.modules())
    assert all(parameter.requires_grad for parameter in focalnet.parameters())
    named = open_classifier(focalnet, labels=list("abcde"), clip_seconds=1.0)
    heard = explain(named, wave, method="grad_cam", rate=16000)
    assert heard.label in "abcde" and len(heard.answer.starts) == 3
    with pytest.raises(UsageError, match="labels has 2 names, and the classifier 5 classes"):
        open_classifier(focalnet, labels=["a", "b"])
    with pytest.raises(UsageError, match="Linear lacks frontend, describe, freeze"):
        explain(torch.nn.Linear(1, 1), wave, rate=16000)


def test_a_published_classifier_is_explained_by_its_name(tiny_ast, wave):
    heard = explain(tiny_ast, wave, method="gradient", rate=16000)
    assert heard.label in ("Speech", "Dog", "Rain")
    assert heard.waveform.shape == (40000,)


@pytest.mark.parametrize("name", ["nowhere", "a/b/c"])
def test_a_classifier_that_is_nowhere_is_refused(name, wave):
    with pytest.raises(UsageError, match=f"classifier='{name}' is no bundle, no run's folder, and no hub name"):
        explain(name, wave, rate=16000)


def test_an_explanation_is_shown_drawn_and_kept(classifier, wave, tmp_path):
    heard = explain(classifier, wave, method="gradient", rate=16000)
    assert repr(heard).startswith("<ExplainedSound of 2.50 s: ") and len(repr(heard)) < 300
    figure = Figure()
    axes = figure.subplots()
    assert heard.plot(axes) is axes
    assert axes.images[0].get_extent() == [0, 2.5, 0, 8]
    assert axes.get_title() == f"{heard.target} by gradient"
    page = heard._repr_html_()
    assert page.count("<audio controls") == 3 and page.count("data:audio/flac") == 3
    assert "data:image/png" in page and f"<b>{heard.target}</b> by gradient" in page
    folder = heard.save(tmp_path / "kept")
    assert {file.name for file in folder.iterdir()} == {
        "input.wav", "relevant.wav", "residual.wav", "explanation.png", "explanation.pdf", "explanation.json",
        "report.html", "masks.npz",
    }  # fmt: skip
    relevant, rate = soundfile.read(folder / "relevant.wav", dtype="float32")
    assert rate == 16000 and np.abs(np.clip(heard.relevant, -1, 1) - relevant).max() < 1e-4
    with np.load(folder / "masks.npz") as masks:
        assert np.array_equal(masks["times"], heard.times)
        assert masks["mask"] == pytest.approx(heard.mask, abs=1e-3)
    assert json.loads((folder / "explanation.json").read_text())["target"] == heard.target


def test_what_deceives_about_a_sound_is_told(classifier, run, sound_file, caplog):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    heard = explain(classifier, np.stack([tone, -tone]), method="modulation", rate=16000)
    assert [fault.kind for fault in heard.faults] == ["cancelling"]
    clause = "its channels cancel each other altogether when mixed to one: give one of them"
    assert clause in heard._repr_html_()
    assert f"the sound: {clause}." in caplog.messages
    silent = sound_file("silent.wav", np.zeros(16000))
    SoundInterpreter.from_hparams(run).classify_file(silent)
    assert f"{silent}: it is digital silence." in caplog.messages
