"""Checks of explainers: answers known by construction, what is written, what stays untouched, what is refused."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_files import HPARAMS
from torch import nn

from interpreters.base import Interpreter, masked
from interpreters.sanity import layers, rank_correlation, settle
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd
from recipes.checks import main, run_check
from recipes.config.recipe import load_recipe
from recipes.data.clips import ClipBatch
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.data.preparation import prepare
from recipes.scoring.sanity_checks import CHECKS, Bench, curves, randomization, resized, robustness, stability

RATE = 16000
LOW, HIGH = slice(0, 128), slice(128, 513)  # below and above 2 kHz


class Bands(nn.Module):
    """Class 0 is sound below 2 kHz, class 1 sound above; the answer is scaled by a weight that can be forgotten."""

    def __init__(self):
        super().__init__()
        self.frontend, self.stem = FrontEnd(), nn.Linear(513, 8)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2))

    def forward(self, spectrogram):
        energy = spectrogram.log_magnitude
        bands = torch.stack([energy[..., LOW].mean(dim=(1, 2)), energy[..., HIGH].mean(dim=(1, 2))], dim=1)
        return Evidence(20 * self.head(bands), Features(bands, native_map=self.stem(energy).abs().unsqueeze(1)))


class Explainer(Interpreter):
    """perfect: energy of the predicted class's band. inverted: all else. random: a draw. learned: the first layer."""

    def __init__(self, kind: str):
        super().__init__(ClassifierInfo(2, RATE, 1024, (), frozenset({"gradient", "native_map"})))
        self.kind = kind

    def importance(self, classifier, spectrogram, evidence, target=None):
        energy = spectrogram.log_magnitude / spectrogram.log_magnitude.amax(dim=(1, 2), keepdim=True)
        inside = torch.zeros(2, 513)
        inside[0, LOW], inside[1, HIGH] = 1, 1
        chosen = inside[evidence.prediction][:, None, :].expand_as(energy)
        learned = evidence.features.native_map[:, 0].repeat_interleave(65, dim=2)[..., :513]
        return {
            "perfect": energy * chosen,
            "inverted": energy * (1 - chosen),
            "random": torch.rand(energy.shape),
            "energy": energy,
            "learned": learned,
        }[self.kind]

    def interpret(self, classifier, spectrogram, evidence, target=None):
        importance = self.importance(classifier, spectrogram, evidence, target)
        return masked(spectrogram, importance.clamp(0, 1), evidence.prediction)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    return prepare(corpus, tmp_path_factory.mktemp("cache"), RATE, 1.0)


@pytest.fixture(scope="module")
def clips() -> ClipBatch:
    """A low tone with a faint high one, and the other way round; neither is periodic in its second."""
    time = torch.arange(RATE) / RATE
    low, high = (torch.sin(2 * math.pi * hertz * time**1.1) for hertz in (500.0, 3000.0))
    mixed = torch.stack([low + 0.3 * high, 0.3 * low + high]) / 1.3
    return ClipBatch(mixed, torch.tensor([0, 1]), torch.tensor([0, 1]))


def bench(kind: str, store=None, steps: int = 10, network: nn.Module | None = None) -> Bench:
    torch.manual_seed(0)
    classifier = (network or Bands()).eval().requires_grad_(False)
    return Bench(classifier, Explainer(kind), store, "test", (0, 1), 3, steps, torch.randn(4, RATE))


def rows(findings) -> dict[tuple, dict[str, list[float]]]:
    return {(one.axis, one.value): {name: column.tolist() for name, column in one.columns.items()} for one in findings}


# curves


def areas(kind: str, clips: ClipBatch) -> dict[str, float]:
    found = rows(curves(bench(kind), clips)).values()
    return {name: np.trapezoid([np.mean(row[name]) for row in found], dx=0.1) for name in ("deletion", "insertion")}


def test_curves_start_and_end_at_the_whole_and_at_silence(clips):
    b = bench("random")
    found = rows(curves(b, clips))
    assert [value for _, value in found] == pytest.approx([k / 10 for k in range(11)])
    whole = b.hear(clips.waveform).evidence.probabilities.amax(dim=1).tolist()
    first, last = found["share of bins", 0.0], found["share of bins", 1.0]
    assert first["deletion"] == last["insertion"] == pytest.approx(whole)
    assert first["insertion"] == last["deletion"] == pytest.approx([0.5, 0.5])


def test_a_perfect_explainer_beats_a_random_one_and_that_an_inverted_one(clips):
    perfect, random, inverted = (areas(kind, clips) for kind in ("perfect", "random", "inverted"))
    assert perfect["deletion"] + 0.1 < random["deletion"] < inverted["deletion"] - 0.1
    assert perfect["insertion"] - 0.1 > random["insertion"] > inverted["insertion"] + 0.1


# randomisation


def test_a_map_that_ignores_the_classifier_fails_and_one_that_uses_it_passes(clips):
    passes, fails = (rows(randomization(bench(kind), clips)) for kind in ("learned", "energy"))
    assert [value for _, value in passes] == [1, 2]
    assert all(row["rank_correlation"] == pytest.approx([1, 1]) and row["ssim"] == pytest.approx([1, 1], abs=1e-5)
               for row in fails.values())  # fmt: skip
    head, stem = passes.values()
    # the map is the first layer's, and the cascade reaches it last
    assert head["rank_correlation"] == pytest.approx([1, 1])
    assert max(map(abs, stem["rank_correlation"])) < 0.6
    assert max(map(abs, stem["ssim"])) < 0.6


def test_the_class_that_is_explained_stays_while_the_head_is_forgotten(clips):
    b = bench("perfect", steps=2)
    before = {name: value.clone() for name, value in b.classifier.state_dict().items()}
    found = [one.columns["rank_correlation"].tolist() for one in randomization(b, clips)]
    assert found == [pytest.approx([1, 1])] * 2
    assert all(torch.equal(value, before[name]) for name, value in b.classifier.state_dict().items())


class Deep(nn.Module):
    """Twenty convolutions with batch norms; its map is the last one's first channel."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd()
        blocks = [[nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()] for _ in range(20)]
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, 8, padding=1), *(layer for block in blocks for layer in block))
        self.head = nn.Linear(8, 2)

    def forward(self, spectrogram):
        maps = self.body(spectrogram.log_magnitude.unsqueeze(1))
        return Evidence(self.head(maps.mean(dim=(2, 3))), Features(maps.mean(dim=(2, 3)), native_map=maps[:, :1]))


def test_the_signal_does_not_fade_while_a_deep_network_is_forgotten(clips, monkeypatch):
    spreads = []

    def importance(self, classifier, spectrogram, evidence, target=None):
        spreads.append(evidence.features.native_map.std().item())
        return spectrogram.log_magnitude

    monkeypatch.setattr(Explainer, "importance", importance)
    b = bench("energy", steps=6, network=Deep())
    settle([layer for _, layer in layers(b.classifier)], lambda: b.hear(clips.waveform))
    list(randomization(b, clips))
    assert len(spreads) == 7
    assert all(spreads[0] / 20 < one < 20 * spreads[0] for one in spreads)


def test_layers_are_named_from_head_to_stem(clips):
    assert [one.layer for one in randomization(bench("energy"), clips)] == ["head", "stem"]


# robustness


@pytest.fixture(scope="module")
def robust(clips, store) -> dict:
    return rows(robustness(bench("energy", store), clips))


def test_robustness_meets_every_level_and_length(robust):
    found = robust
    assert [key for key in found if key[0] == "SNR in dB, white"] == [
        ("SNR in dB, white", snr) for snr in (-10, -5, 0, 5, 10, 15, 20)
    ]
    assert [value for axis, value in found if axis == "length in s"] == [1, 2, 5, 10, 30]
    similar = [found["SNR in dB, white", snr]["rank_correlation"][0] for snr in (-10.0, 0.0, 20.0)]
    assert similar == sorted(similar)
    same = found["length in s", 1.0]
    assert same["rank_correlation"] == pytest.approx([1, 1])
    assert same["prediction_kept"] == [1, 1]
    # a repeated clip has the same map over and over but for the seams and the frames' places in it
    assert min(found["length in s", 5.0]["rank_correlation"]) > 0.6
    assert found["length in s", 30.0].keys() == {
        "fid_i", "fa", "ai", "ad", "ag", "prediction_kept", "rank_correlation"
    }  # fmt: skip


def test_the_noise_of_a_level_is_that_of_the_contamination(clips, store, robust):
    b = bench("energy", store)
    noise = Contamination(ContaminationSettings("white", 3, 20.0), store, "test", (0, 1))
    expected = b.hear(noise.apply(clips).waveform).evidence.prediction == b.hear(clips.waveform).evidence.prediction
    assert robust["SNR in dB, white", 20.0]["prediction_kept"] == expected.float().tolist()


def test_a_longer_clip_repeats_and_a_shorter_one_is_the_loudest_part():
    waveform = torch.zeros(2, 1000)
    waveform[0, 620:700], waveform[1, 100:150] = 1, 0.5
    short, start = resized(waveform, 200, 50)
    assert [one % 50 for one in start.tolist()] == [0, 0]
    assert short.sum(dim=1).tolist() == [80, 25]
    assert torch.equal(short[0], waveform[0, start[0] : start[0] + 200])
    long, start = resized(waveform, 2300, 50)
    assert start.tolist() == [0, 0]
    assert torch.equal(long, torch.cat([waveform, waveform, waveform[:, :300]], dim=1))
    assert torch.equal(resized(waveform, 1000, 50)[0], waveform)


# stability


def test_a_constant_map_never_moves_and_a_drawn_one_is_drawn_alike(clips):
    found = rows(stability(bench("random"), clips))
    assert [value for _, value in found] == pytest.approx([1000 / RATE, 1, 2, 5, 10])
    assert all(row["prediction_kept"] == [1, 1] for row in found.values())
    *near, far = found.values()
    for row in near:
        assert row["rank_correlation"] == pytest.approx([1, 1])
        assert row["max_change"] == [0, 0]
    # 10 ms are nearly a frame: a map should have moved with the clip
    assert max(map(abs, far["rank_correlation"])) < 0.05


def test_a_map_that_moves_with_the_clip_is_stable(clips):
    b = bench("energy")
    found = rows(stability(b, clips))
    still, moved = (b.importance(b.hear(one)) for one in (clips.waveform, clips.waveform.roll(160, dims=1)))
    similar = found["shift in ms", 10.0]["rank_correlation"]
    # 160 samples are 0.86 of a frame, so that the next frame is the nearest
    assert similar == pytest.approx(rank_correlation(moved, still.roll(1, dims=1)).tolist())
    assert min(similar) > max(rank_correlation(moved, still).tolist())
    assert found["shift in ms", 1000 / RATE]["rank_correlation"][0] > 0.8


def test_a_map_that_stays_where_it_is_is_not(clips, monkeypatch):
    place = torch.rand(1, RATE // 185 + 1, 513).cumsum(dim=1)
    monkeypatch.setattr(
        Explainer, "importance", lambda self, classifier, heard, evidence, target=None: place.expand(2, -1, -1)
    )
    found = rows(stability(bench("energy"), clips))
    assert found["shift in ms", 10.0]["rank_correlation"][0] < 0.99 < found["shift in ms", 1.0]["rank_correlation"][0]


# the command


@pytest.fixture(scope="module")
def command(arguments, bundle, tmp_path_factory):
    """(*changes) -> the arguments of a check of the modulation map on a small FocalNet."""
    output = tmp_path_factory.mktemp("checks")
    classifier = f"--classifier={bundle('focalnet')}"
    return lambda *changes: arguments(HPARAMS / "modulation.yaml", output, classifier, *changes)


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_writes_its_rows_with_the_facts_of_a_run(check, command, bundle, capsys):
    weights = (bundle("focalnet") / "weights.safetensors").read_bytes()
    main([*command(), f"--check={check}", "--clips=3", "--steps=3"])
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{check}: "))
    path = Path(told.partition(": ")[2])
    found = json.loads(path.read_text())
    assert found.keys() == {
        "experiment", "classifier", "interpreter", "data", "seed", "commit", "config_sha256", "device", "torch",
        "seconds", "training", "metrics", "sweep",
    }  # fmt: skip
    assert (found["data"]["part"], found["data"]["clips"], found["data"]["steps"]) == ("test", 3, 3)
    assert found["classifier"]["path"] == str(bundle("focalnet"))
    assert len(found["sweep"]) == {"curves": 4, "randomization": 3, "robustness": 19, "stability": 5}[check]
    scores = {name.partition(", ")[0] for name in found["metrics"]}
    assert all(row.keys() >= {"axis", "value"} | scores for row in found["sweep"])
    assert (bundle("focalnet") / "weights.safetensors").read_bytes() == weights
    each = list(csv.DictReader(path.with_suffix(".csv").open()))
    assert len({row["id"] for row in each}) == 3
    for name, mean in found["metrics"].items():
        assert mean == pytest.approx(np.mean([float(row[name]) for row in each]), rel=1e-4)
    name, summary = next(iter(found["metrics"].items()))
    score, _, axis = name.partition(", ")
    means = [row[score] for row in found["sweep"] if row["axis"] == (axis or row["axis"])]
    if check == "curves":
        assert summary == pytest.approx(np.trapezoid(means, dx=1 / 3))
    elif check == "randomization":
        assert summary == pytest.approx(means[-1])
        assert found["sweep"][0]["layer"].startswith("head")
    else:
        assert summary == pytest.approx(np.mean(means))


def test_settings_are_chosen_on_the_validation_folds(command, tmp_path):
    """What is found there lies apart, because `recipes.compare` takes what lies in checks/ for the test folds."""
    main([*command(f"--output_folder={tmp_path}"), "--check=randomization", "--clips=3", "--steps=2", "--part=valid"])
    (path,) = tmp_path.rglob("randomization.json")
    assert path.parts[-3:-1] == ("checks", "valid")
    found = json.loads(path.read_text())["data"]
    assert (found["part"], found["clips"]) == ("valid", 3)
    ids = [row["id"] for row in csv.DictReader(path.with_suffix(".csv").open())]
    assert {int(one.partition("-")[0]) for one in ids} == set(found["valid_folds"])


def test_a_check_is_repeated_to_the_bit_whatever_the_batch(command):
    found = []
    for size in (1, 3):
        path = run_check(load_recipe(command(f"--eval_batch_size={size}")), "randomization", clips=3, steps=3)
        assert path.with_suffix(".svg").is_file()
        found.append(json.loads(path.read_text())["metrics"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_what_cannot_be_checked_is_refused(command, arguments, bundle, tmp_path):
    for changes, sentence in (
        (("--contamination=mixture",), "leave out --contamination"),
        (("--folds=all",), "of one split"),
    ):
        with pytest.raises(UsageError, match=sentence):
            run_check(load_recipe(command(*changes)), "curves")
    with pytest.raises(UsageError, match="at least 1"):
        run_check(load_recipe(command()), "curves", clips=0)
    untrained = load_recipe(arguments(HPARAMS / "lmac.yaml", tmp_path, f"--classifier={bundle('cnn14')}"))
    with pytest.raises(UsageError, match="no trained interpreter"):
        run_check(untrained, "curves")
