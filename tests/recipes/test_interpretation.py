"""Interpreting a classifier: scores by construction, sweeps, trained interpreters, single files, what is refused."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from recipe_files import HPARAMS, TINY
from safetensors.torch import load_file

from interpreters.maps import QuantileMap
from models.bundle import load_bundle, read_info, save_bundle
from models.classifier import AudioClassifier
from models.errors import UsageError
from recipes import interpretation
from recipes.runs.subject import find_classifier, find_start, load_interpreter, load_subject
from recipes.scoring.quality import SI_SDR_LIMIT_DB
from recipes.training.interpreter_brain import InterpreterBrain
from tests.helpers import refusal

MODULATION, LMAC = HPARAMS / "modulation.yaml", HPARAMS / "lmac.yaml"
QUANTILES = (0.2, 0.5, 0.9)
SHORT = ("--epochs=1", "--batch_size=10", "--precision=fp32")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def focalnet(bundle) -> str:
    return f"--classifier={bundle('focalnet')}"


@pytest.fixture(scope="module")
def cnn14(bundle) -> str:
    return f"--classifier={bundle('cnn14')}"


@pytest.fixture(scope="module")
def sweep(interpret, focalnet, tmp_path_factory) -> Path:
    """The modulation map at three quantiles, with a report of two clips."""
    return interpret(
        MODULATION, tmp_path_factory.mktemp("sweep"), focalnet, f"--quantile={list(QUANTILES)}", "--report_clips=2"
    )


@pytest.fixture(scope="module")
def lmac(interpret, cnn14, tmp_path_factory) -> Path:
    """L-MAC trained for an epoch on a CNN14, scored on clean clips and on mixtures."""
    return interpret(
        LMAC, tmp_path_factory.mktemp("lmac"), cnn14, "--contamination=[clean,mixture]", "--report_clips=1", *SHORT
    )


@pytest.mark.parametrize("recipe", ["modulation", "gradient"])
def test_a_classifier_on_learned_channels_is_explained_as_any_other(recipe, train, interpret, tmp_path):
    size = ("--image_size=64", "--num_classes=10", "--clip_seconds=1.0", "--debug", "--debug_epochs=1")
    trained = train(HPARAMS / "focalnet_projection_scratch.yaml", tmp_path, *size, "--debug_batches=2")
    weights = load_file(trained / "classifier/weights.safetensors")
    assert weights["adapter.projection.local.2.weight"].abs().max() > 0  # three zero channels at its start
    step = ("--report_clips=1", "--debug", "--debug_batches=1")
    folder = interpret(HPARAMS / f"{recipe}.yaml", tmp_path, f"--classifier={trained / 'classifier'}", *step)
    scores = metrics(folder)["metrics"]
    assert scores["kept"] == pytest.approx(0.1, abs=0.02) and 0 <= scores["fid_i"] <= 1


# a sweep and its scores


def test_a_sweep_equals_runs_with_one_quantile_each(sweep, interpret, focalnet, tmp_path):
    rows = metrics(sweep)["sweep"]
    assert [row["quantile"] for row in rows] == list(QUANTILES)
    for row in rows:
        single = interpret(
            MODULATION, tmp_path / str(row["quantile"]), focalnet, f"--quantile={row['quantile']}", "--report_clips=0"
        )
        assert metrics(single)["metrics"] == pytest.approx(
            {name: value for name, value in row.items() if name != "quantile"}, abs=1e-6
        )


def test_the_headline_of_a_sweep_is_the_papers_quantile(sweep):
    found = metrics(sweep)
    row = next(row for row in found["sweep"] if row["quantile"] == 0.9)
    assert found["interpreter"]["quantile"] == 0.9
    assert found["metrics"] == {name: value for name, value in row.items() if name != "quantile"}
    kept = [float(one["kept"]) for one in table(sweep / "clips.csv")]
    assert sum(kept) / len(kept) == pytest.approx(found["metrics"]["kept"], abs=1e-5)
    assert all(share >= 0.1 for share in kept)


def test_a_sweep_of_q_quantiles_costs_1_plus_2_q_classifier_passes_a_clip(interpret, focalnet, tmp_path, monkeypatch):
    forward, passes = AudioClassifier.forward, []

    def counted(self, spectrogram):
        passes.append(len(spectrogram))
        return forward(self, spectrogram)

    monkeypatch.setattr(AudioClassifier, "forward", counted)
    interpret(MODULATION, tmp_path, focalnet, f"--quantile={list(QUANTILES)}", "--report_clips=0")
    # the first pass is the description's second of silence
    assert passes[0] == 1
    assert sum(passes[1:]) == 20 * (1 + 2 * len(QUANTILES))


def test_a_mask_that_keeps_everything_scores_as_the_definitions_say(interpret, focalnet, tmp_path):
    run = interpret(MODULATION, tmp_path, focalnet, "--quantile=0.0", "--report_clips=0")
    found = metrics(run)["metrics"]
    assert (found["fid_i"], found["ai"], found["ad"], found["ag"], found["kept"]) == (1, 0, 0, 0, 1)
    assert found["sps"] == pytest.approx(0, abs=1e-6)
    # the entropy of an even mask over 87 frames of 513 bins
    assert found["comp"] == pytest.approx(math.log(87 * 513))
    # what is left of every clip is silence, so FA is p(c) on the clip less p(c) on silence
    subject = load_subject(focalnet.partition("=")[2], "cpu")
    frontend = subject.classifier.frontend
    silence = subject.classifier(frontend.analyze(torch.zeros(1, 16000))).probabilities[0]
    for row in table(run / "clips.csv"):
        of_silence = silence[subject.info.class_names.index(row["prediction"])].item()
        assert float(row["fa"]) == pytest.approx(float(row["probability"]) - of_silence, abs=1e-5)


def test_metrics_json_keeps_the_contract(sweep, lmac, bundle):
    for folder in (sweep, lmac):
        found = metrics(folder)
        assert found.keys() - {"sweep"} == {
            "experiment", "classifier", "interpreter", "data", "seed", "commit", "config_sha256", "device", "torch",
            "seconds", "training", "metrics",
        }  # fmt: skip
        of_trained = {"sps_relevant", "comp_relevant"} if folder == lmac else set()
        assert found["metrics"].keys() == of_trained | {
            "acc", "fid_i", "fa", "fa_raw_cosine", "ai", "ad", "ag", "sps", "comp", "kept", "split_db"
        }  # fmt: skip
        assert found["data"]["clips"] == len(table(folder / "clips.csv")) == 20
        assert found["data"]["contamination"] == "clean"
    interpreter = metrics(sweep)["interpreter"]
    assert 0 < interpreter.pop("seconds_per_clip") * 20 < metrics(sweep)["seconds"]
    kept = interpreter.pop("kept_quartiles")
    assert kept == sorted(kept) == pytest.approx([0.1] * 5, abs=0.03)
    assert interpreter == {"recipe": "modulation", "class": "QuantileMap", "parameters": 0, "quantile": 0.9}
    classifier = metrics(sweep)["classifier"]
    assert classifier["path"] == str(bundle("focalnet"))
    assert classifier["sha256"] == read_info(bundle("focalnet"), "classifier").sha256["weights.safetensors"]
    assert "sweep" not in metrics(lmac)
    assert metrics(lmac)["training"].keys() >= {"epoch", "valid_loss", "epochs", "seconds"}


def test_accuracy_is_the_classifiers_own(sweep, bundle):
    own = json.loads((bundle("focalnet").parent / "metrics.json").read_text())["metrics"]["acc"]
    assert metrics(sweep)["metrics"]["acc"] == pytest.approx(own)


def explained_clips(run: Path) -> list[str]:
    """The wrong predictions, five at most for each of `report_clips`=2, and as many others."""
    rows = table(run / "clips.csv")
    wrong = [row["id"] for row in rows if row["acc"] == "0"]
    return [*wrong[:10], *(["another"] * min(2, len(rows) - len(wrong)))]


def test_a_report_holds_wrong_clips_first_a_mixture_and_the_trade_off(sweep, lmac):
    page = (sweep / "report.html").read_text()
    expected = explained_clips(sweep)
    # of the mixture there are both clips and their sum
    assert page.count("<article") == len(expected) + 1
    assert page.count("data-sound=") == 3 * len(expected) + 5
    shown = re.findall(r'data-clip="([^"]*)"', page)
    wrong = [clip for clip in expected if clip != "another"]
    assert shown[: len(wrong)] == wrong
    assert "svg+xml" in page
    plots = {"tradeoff.png", "tradeoff.pdf", "mixture.png", "mixture.pdf", "confusion.svg"}
    assert plots <= {path.name for path in sweep.iterdir()}
    sounds = {path.name for path in (sweep / "media").glob("*.wav")}
    assert sounds == {
        *(f"{clip}_{part}.wav" for clip in shown[:-1] for part in ("input", "relevant", "residual")),
        *(f"mixture_{part}.wav" for part in ("first", "second", "mixture", "interpretation")),
    }
    assert all(soundfile.info(path).channels == 1 for path in (sweep / "media").glob("*.wav"))
    assert not (lmac / "tradeoff.png").exists()


def test_what_was_said_about_a_reports_clips_is_kept(sweep):
    rows = {row["id"]: row for row in table(sweep / "clips.csv")}
    told = json.loads((sweep / "media/explanations.json").read_text())
    assert len(told) == len(explained_clips(sweep))
    for name, one in told.items():
        assert (one["label"], one["prediction"]) == (rows[name]["label"], rows[name]["prediction"])
        whole, _, residual = one["probabilities"][one["prediction"]]
        assert whole == pytest.approx(float(rows[name]["probability"]), abs=1e-4)
        assert whole - residual == pytest.approx(float(rows[name]["fa"]), abs=1e-4)
        assert one["scores"]["fa"] == pytest.approx(float(rows[name]["fa"]), abs=1e-4)
        parts = (rows[name][part] for part in ("prediction", "relevant_prediction", "residual_prediction"))
        prediction, relevant, residual = parts
        verdicts = {(True, True): "holds", (True, False): "not_needed", (False, True): "not_enough"}
        assert one["verdict"] == verdicts.get((relevant == prediction, residual != prediction), "fails")
        # the relevant sound of a mask method is the masked input itself
        assert one["scores"]["si_sdr"] == SI_SDR_LIMIT_DB


def test_runs_on_the_same_classifier_and_clips_stand_beside_each_other(interpret, focalnet, tmp_path):
    for name, quantile in (("first", 0.5), ("second", 0.9)):
        interpret(MODULATION, tmp_path, focalnet, f"--quantile={quantile}", f"--experiment={name}", "--report_clips=1")
    interpret(MODULATION, tmp_path, focalnet, "--experiment=noisy", "--contamination=white", "--report_clips=0")
    page = (tmp_path / "second/1234/report.html").read_text()
    assert "second/1234 (this run)" in page
    assert "first/1234" in page
    assert "first/1234" not in (tmp_path / "noisy/1234/white/report.html").read_text()


# contamination


def test_a_contamination_is_scored_in_a_folder_of_its_own(lmac, corpus):
    found = metrics(lmac / "mixture")
    assert found["data"]["contamination"]["kind"] == "mixture"
    assert found["data"]["contamination"]["snr_db"] == pytest.approx(20 * math.log10(4))
    assert found["metrics"] != metrics(lmac)["metrics"]
    draws = table(lmac / "mixture/draws.csv")
    assert [row["id"] for row in draws] == [row["id"] for row in table(lmac / "clips.csv")]
    labels = {row["filename"].removesuffix(".flac"): row["category"] for row in table(corpus / "meta/synthetic.csv")}
    folds = {row["filename"].removesuffix(".flac"): row["fold"] for row in table(corpus / "meta/synthetic.csv")}
    assert all(labels[row["id"]] != labels[row["source"]] and folds[row["source"]] == "5" for row in draws)
    assert {"clips.csv", "report.html", "media"} <= {path.name for path in (lmac / "mixture").iterdir()}
    assert not (lmac / "draws.csv").exists()


def test_scores_at_another_snr_leave_those_at_the_published_one(interpret, focalnet, tmp_path):
    interpret(MODULATION, tmp_path, focalnet, "--contamination=white", "--report_clips=0")
    run = interpret(MODULATION, tmp_path, focalnet, "--contamination=white", "--snr_db=-2.5", "--report_clips=0")
    found = {
        path.parent.name: metrics(path.parent)["data"]["contamination"]["snr_db"] for path in run.glob("*/metrics.json")
    }
    assert found == {"white": pytest.approx(20 * math.log10(2)), "white_-2.5dB": -2.5}


def test_a_trained_interpreter_is_scored_on_noise_and_on_data_in_another_place(
    lmac, interpret, cnn14, corpus, tmp_path
):
    (tmp_path / "data").symlink_to(corpus)
    given = ["--test_only", "--report_clips=0", *SHORT, f"--data_folder={tmp_path / 'data'}"]
    noise = ["--contamination=noise", f"--noise_folder={corpus / 'audio'}"]
    run = interpret(LMAC, lmac.parents[1], cnn14, *given, *noise)
    before = metrics(lmac)
    assert metrics(run / "noise")["training"] == before["training"]
    assert metrics(interpret(LMAC, lmac.parents[1], cnn14, *given))["metrics"] == before["metrics"]


def test_an_unknown_contamination_is_refused_before_anything_slow(interpret, tmp_path):
    told = refusal(interpret, MODULATION, tmp_path, "--contamination=[clean,mixtur]")
    assert "contamination is 'mixtur': did you mean mixture?" in told


# interpreters that are trained


def test_the_classifier_is_left_as_it_was(interpret, cnn14, bundle, tmp_path, monkeypatch):
    subjects = []

    def kept(path, device, trust):
        subjects.append(load_subject(path, device, trust))
        return subjects[-1]

    monkeypatch.setattr(interpretation, "load_subject", kept)
    interpret(LMAC, tmp_path, cnn14, "--report_clips=0", *SHORT, "--debug", "--debug_epochs=1")
    network, before = subjects[0].classifier, load_file(bundle("cnn14") / "weights.safetensors")
    # batch norm's running statistics are among them
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


def test_a_mixture_is_scored_against_the_true_source_where_the_classifier_names_one(lmac, corpus):
    labels = {row["filename"].removesuffix(".flac"): row["category"] for row in table(corpus / "meta/synthetic.csv")}
    partner = {row["id"]: labels[row["source"]] for row in table(lmac / "mixture/draws.csv")}
    rows, found = table(lmac / "mixture/clips.csv"), metrics(lmac / "mixture")["metrics"]
    named = [row for row in rows if row["prediction"] in (row["label"], partner[row["id"]])]
    assert 0 < len(named) < 20
    for score in ("iou", "ap", "pointing", "inside", "si_sdri"):
        assert all((row[score] == "nan") == (row not in named) for row in rows)
        assert found[f"{score}_undefined"] == 20 - len(named)
        mean = sum(float(row[score]) for row in named) / len(named)
        assert found[score] == pytest.approx(mean, abs=1e-4)
        assert score not in metrics(lmac)["metrics"]
    assert all(0 <= float(row["iou"]) <= 1 for row in named)


def test_a_trained_interpreter_is_scored_again_to_the_bit(lmac, interpret, cnn14):
    before, clips = metrics(lmac), (lmac / "clips.csv").read_bytes()
    changes = ("--contamination=[clean,mixture]", "--report_clips=0", "--test_only", *SHORT)
    assert interpret(LMAC, lmac.parents[1], cnn14, *changes) == lmac
    after = metrics(lmac)
    assert after["metrics"] == before["metrics"]
    assert after["training"] == before["training"]
    assert (lmac / "clips.csv").read_bytes() == clips


def test_the_epoch_with_the_least_validation_loss_is_kept(lmac):
    log = (lmac / "train_log.txt").read_text().splitlines()
    assert len(log) == 1
    told = float(log[0].rpartition("loss: ")[2])
    assert metrics(lmac)["training"]["epoch"] == 1
    assert metrics(lmac)["training"]["valid_loss"] == pytest.approx(told, abs=0.01)


def test_an_interrupted_training_ends_as_the_undisturbed_one_to_the_bit(interpret, cnn14, tmp_path, monkeypatch):
    changes = (cnn14, "--report_clips=0", *SHORT, "--epochs=2", "--train_noise=white", "--debug", "--debug_batches=3",
               "--debug_persistently")  # fmt: skip
    whole = interpret(LMAC, tmp_path / "whole", *changes)
    start = InterpreterBrain.on_stage_start

    def cut(self, stage, epoch=None):
        if (stage, epoch) == (sb.Stage.TRAIN, 2):
            raise KeyboardInterrupt
        start(self, stage, epoch)

    monkeypatch.setattr(InterpreterBrain, "on_stage_start", cut)
    with pytest.raises(KeyboardInterrupt):
        interpret(LMAC, tmp_path / "cut", *changes)
    monkeypatch.undo()
    resumed = interpret(LMAC, tmp_path / "cut", *changes)
    weights = [(one / "interpreter/weights.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
    assert metrics(resumed)["metrics"] == metrics(whole)["metrics"]


def test_an_untrained_interpreter_names_the_command_that_trains_it(interpret, cnn14, tmp_path):
    (tmp_path / "anything.wav").write_bytes(b"not read")
    told = f"no trained interpreter at {tmp_path / 'lmac/1234/interpreter'}: train it with `python interpret.py {LMAC}`"
    first = (
        f"no trained interpreter at {tmp_path / 'lmac/1234/interpreter'}: first train it, by the same command without "
    )
    assert refusal(interpret, LMAC, tmp_path, cnn14, f"--audio={tmp_path / 'anything.wav'}") == f"{first}--audio"
    assert refusal(interpret, LMAC, tmp_path, cnn14, "--test_only") == told


def test_an_interpreter_belongs_to_one_classifier(lmac, interpret, bundle, tmp_path):
    given = load_bundle(bundle("cnn14"), "classifier")
    with torch.no_grad():
        next(given.network.parameters()).add_(1e-3)
    other = save_bundle(tmp_path / "other", given.network, (given.path / "model.yaml").read_text(), given.info)
    told = refusal(load_interpreter, lmac, load_subject(other, "cpu"), "")
    assert told == f"{lmac / 'interpreter'} was trained for another classifier than {other}: use that, or retrain"


def test_training_may_start_from_another_run(lmac, interpret, cnn14, tmp_path):
    changes = (cnn14, "--report_clips=0", *SHORT, "--peak_lr=1e-9", "--debug", "--debug_batches=1", "--debug_epochs=1")
    run = interpret(HPARAMS / "lmac_finetuned.yaml", tmp_path, *changes, f"--start_from={lmac}")
    before, after = (load_file(one / "interpreter/weights.safetensors") for one in (lmac, run))
    # one step of Adam at 1e-6 moves no weight further than that
    assert all((after[name] - value).abs().max() < 2e-6 for name, value in before.items())
    assert metrics(run)["training"]["start_from"] == str(lmac)


def test_scoring_holds_neither_gradients_nor_the_state_of_the_optimiser(interpret, cnn14, tmp_path, monkeypatch):
    train, score, held = InterpreterBrain.train, InterpreterBrain.score_from, {}

    def note_training(self):
        train(self)
        held.update(brain=self, trained=len(self.optimizer.state))

    def note_scoring(self, journal):
        gradients = [one for one in self.interpreter.parameters() if one.grad is not None]
        held.update(gradients=len(gradients), scored=len(held["brain"].optimizer.state))
        score(self, journal)

    monkeypatch.setattr(InterpreterBrain, "train", note_training)
    monkeypatch.setattr(InterpreterBrain, "score_from", note_scoring)
    interpret(LMAC, tmp_path, cnn14, *SHORT, "--report_clips=0", "--debug", "--debug_batches=1", "--debug_epochs=1")
    assert held["trained"] > 0
    assert (held["gradients"], held["scored"]) == (0, 0)


def test_a_run_of_no_epochs_scores_what_it_starts_from(lmac, interpret, cnn14, tmp_path):
    changes = (cnn14, "--report_clips=0", "--epochs=0", f"--start_from={lmac}", "--debug", "--debug_batches=1")
    run = interpret(HPARAMS / "lmac_finetuned.yaml", tmp_path, *changes)
    weights = [(one / "interpreter/weights.safetensors").read_bytes() for one in (lmac, run)]
    assert weights[0] == weights[1]
    assert metrics(run)["training"] == {"start_from": str(lmac), "epochs": 0}
    assert not (run / "save").exists()
    told = refusal(interpret, LMAC, tmp_path / "fresh", cnn14, "--epochs=0")
    assert "epochs=0 must be a whole number of 1 or more" in told


def test_every_fold_starts_from_its_own(lmac, tmp_path):
    for fold in (1, 2):
        shutil.copytree(lmac, tmp_path / f"trained/fold{fold}")
    values = {"start_from": str(tmp_path / "trained"), "output_folder": "out", "experiment": "x", "seed": 1}
    assert find_start(values, Path("out/x/1/fold2")) == tmp_path / "trained/fold2"
    with pytest.raises(UsageError, match=r"start_from=.*trained/fold3 is no run with a trained interpreter"):
        find_start(values, Path("out/x/1/fold3"))
    assert find_start(values | {"start_from": str(lmac)}, Path("out/x/1")) == lmac
    assert find_start(values | {"start_from": None}, Path("out/x/1")) is None


def test_a_start_of_another_shape_is_refused(lmac, interpret, cnn14, tmp_path):
    recipe = tmp_path / "narrow.yaml"
    recipe.write_text(f"extends: {LMAC}\ninterpreter.decoder.width: 16\n")
    told = refusal(interpret, recipe, tmp_path, cnn14, f"--start_from={lmac}", *SHORT)
    assert told.startswith(f"start_from={lmac} is of another shape: ")
    assert "\n" not in told


@pytest.mark.parametrize("kind", ["focalnet", "cnn14"])
def test_relevant_and_residual_log_magnitudes_sum_to_the_input(kind, lmac, bundle):
    subject = load_subject(bundle(kind), "cpu")
    interpreter = (
        QuantileMap(subject.offers, 0.7) if kind == "focalnet" else load_interpreter(lmac, subject, "").network
    )
    spectrogram = subject.classifier.frontend.analyze(torch.randn(3, 16000))
    with torch.no_grad():
        found = interpreter.interpret(subject.classifier, spectrogram, subject.classifier(spectrogram))
    total = found.relevant.log_magnitude + found.residual.log_magnitude
    assert torch.allclose(total, spectrogram.log_magnitude, atol=1e-6)
    assert 0 < found.mask.mean() < 1


def test_a_trained_interpreter_explains_a_file(lmac, interpret, cnn14, sound_file):
    path = sound_file("one.wav", 0.1 * np.random.default_rng(0).standard_normal(20000))
    folder = interpret(LMAC, lmac.parents[1], cnn14, f"--audio={path}")
    told = json.loads((folder / "explanation.json").read_text())
    assert len(told["windows"]) == 2
    # with all weights at hand, the file's mask is not the whole plane
    assert 0 < told["kept"] < 1


# what is refused


def test_a_missing_classifier_names_the_command_that_trains_it(interpret, tmp_path):
    told = refusal(interpret, MODULATION, tmp_path, "--classifier=results/focalnet/1234/classifier")
    assert told == (
        "no trained classifier at results/focalnet/1234/classifier: make one with `python train.py "
        "hparams/focalnet.yaml`, or pass --classifier=path/to/a/classifier"
    )
    told = refusal(interpret, MODULATION, tmp_path, "--classifier=results/vit/1234/classifier", "--folds=all")
    assert "no trained classifier at results/vit/1234/fold1/classifier: make one with" in told
    assert "`python train.py hparams/vit.yaml --folds=all`" in told
    assert "hparams/focalnet.yaml" in refusal(find_classifier, "nothing")


def test_a_classifier_that_was_trained_on_a_test_fold_is_refused(interpret, focalnet, bundle, tmp_path):
    folds = ("--train_folds=[1,5]", "--valid_folds=[4]", "--test_folds=[2,3]")
    told = refusal(interpret, MODULATION, tmp_path, focalnet, *folds)
    assert told == (f"{bundle('focalnet')} was trained on fold 2, which is a test fold here: choose other test_folds")
    assert not (tmp_path / "modulation").exists()
    folds = ("--train_folds=[1,2]", "--valid_folds=[3]", "--test_folds=[4]")
    told = refusal(interpret, MODULATION, tmp_path, focalnet, *folds)
    assert told.endswith("was chosen on fold 4, which is a test fold here: choose other test_folds")


def test_an_interpreter_that_was_trained_on_a_test_fold_is_refused(lmac, interpret, cnn14, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(lmac, other / "lmac/1234", ignore=shutil.ignore_patterns("save"))
    bundle = other / "lmac/1234/interpreter/bundle.json"
    content = json.loads(bundle.read_text())
    content["source"]["data"]["train_folds"] = [1, 2, 5]
    bundle.write_text(json.dumps(content))
    sentence = "lmac/1234/interpreter was trained on fold 5, which is a test fold here"
    for changes in (("--test_only",), (f"--start_from={other / 'lmac/1234'}", "--experiment=more")):
        assert sentence in refusal(interpret, LMAC, other, cnn14, *SHORT, *changes)


def test_a_classifier_of_other_classes_is_refused(interpret, focalnet, relabel, tmp_path):
    renamed = relabel(lambda row: row | {"category": row["category"].replace("siren", "alarm")})
    told = refusal(interpret, MODULATION, tmp_path, focalnet, f"--data_folder={renamed}")
    path = focalnet.partition("=")[2]
    assert told.startswith(f"{path} does not fit {renamed}: the classes of relabelled must be the 10 of the classifier")
    assert told.endswith("relabelled lacks siren and relabelled has alarm besides")


def test_a_classifier_without_what_is_needed_is_refused(interpret, cnn14, tmp_path):
    told = refusal(interpret, MODULATION, tmp_path, cnn14)
    assert "has no modulation of its own to show: choose another classifier, or a method that fits every" in told


# cross-validation


def test_cross_validation_takes_every_folds_own_classifier(train, interpret, three_folds, tmp_path):
    data = (f"--data_folder={three_folds}", "--folds=all")
    short = ("--debug", "--debug_batches=1", "--debug_epochs=1")
    trained = train(TINY, tmp_path, *data, *short)
    folder = interpret(
        MODULATION, tmp_path, *data, f"--classifier={trained / 'classifier'}", "--quantile=[0.1,0.9]",
        "--report_clips=0", "--contamination=[clean,white]",
    )  # fmt: skip
    folds = [folder / f"fold{k}" for k in (1, 2, 3)]
    assert [metrics(fold)["classifier"]["path"] for fold in folds] == [
        str(trained / f"fold{k}/classifier") for k in (1, 2, 3)
    ]
    for part in ("", "white"):
        parts, summary = [metrics(fold / part) for fold in folds], metrics(folder / part)
        for name in ("acc", "fid_i", "fa"):
            assert summary["metrics"][name] == pytest.approx(np.mean([one["metrics"][name] for one in parts]))
        assert [row["quantile"] for row in summary["sweep"]] == [0.1, 0.9]
        for k, row in enumerate(summary["sweep"]):
            assert row["fa"] == pytest.approx(np.mean([one["sweep"][k]["fa"] for one in parts]))
