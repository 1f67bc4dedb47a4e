"""The checks of `python -m recipes.checks`: what each of them measures of an explainer on a batch of clips."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.base import Interpretation, Interpreter
from interpreters.metrics import fidelity_to_input
from interpreters.sanity import importance_order, layers, randomize, rank_correlation, ranks, settle, ssim, unit_range
from models.classifier import AudioClassifier, Evidence
from models.frontend import Spectrogram
from recipes.data.clips import ClipBatch, ClipStore
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.scoring.batch import part_scores
from recipes.scoring.table import ClipTable

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
LENGTHS_S = (1.0, 2.0, 5.0, 10.0, 30.0)
SHIFTS_MS = (0.0, 1.0, 2.0, 5.0, 10.0)
"""No shift is shorter than one sample, so the first is one sample."""
SUMMARIZED = {"robustness": ("fid_i", "rank_correlation")}
"""The scores that a check's summary holds; of a check that is not named here, all of them."""


@dataclass(frozen=True)
class Measurement:
    """What a check measured on a batch of clips at one setting: a value on a named axis.

    columns: scores [B] by key. layer: in a cascade of layers, the one that was drawn last.
    """

    axis: str
    value: float
    columns: dict[str, Tensor]
    layer: str | None = None


Setting = tuple[str, float, str | None]
"""Axis, value and layer of a measurement."""


@dataclass(frozen=True)
class Heard:
    """B clips with what a classifier says of them."""

    spectrogram: Spectrogram
    evidence: Evidence


@dataclass(frozen=True)
class Bench:
    """An explainer under test, and the settings of its checks.

    What the interpreter draws at random, it draws in the same way every time. part: of the split, "test" or "valid".
    members: positions in the corpus of its clips, from which mixtures draw. steps: settings along a curve, places in
    the cascade of layers. settling: waveforms [n, N] on which a network with newly drawn layers settles, the same
    whatever batch is checked.
    """

    classifier: AudioClassifier
    interpreter: Interpreter
    store: ClipStore
    part: str
    members: tuple[int, ...]
    seed: int
    steps: int
    settling: Tensor

    def hear(self, waveform: Tensor) -> Heard:
        """What the classifier says of waveforms [B, N]."""
        spectrogram = self.classifier.frontend.analyze(waveform)
        return Heard(spectrogram, self.classifier(spectrogram))

    def importance(self, heard: Heard, classifier: AudioClassifier | None = None) -> Tensor:
        """[B, T, F] by which bins are ranked."""
        torch.manual_seed(self.seed)
        return self.interpreter.importance(classifier or self.classifier, heard.spectrogram, heard.evidence).float()

    def explain(self, heard: Heard) -> Interpretation:
        torch.manual_seed(self.seed)
        return self.interpreter.interpret(self.classifier, heard.spectrogram, heard.evidence)


def curves(bench: Bench, batch: ClipBatch) -> Iterator[Measurement]:
    """The predicted class's probability as 0, 1/steps, ... 1 of the bins are taken, the most important first.

    `deletion`: without those bins. `insertion`: with those bins alone.
    """
    heard = bench.hear(batch.waveform)
    order = importance_order(bench.importance(heard), bench.seed)
    target = heard.evidence.prediction[:, None]

    def probability(mask: Tensor) -> Tensor:
        return bench.classifier(heard.spectrogram.masked(mask)).probabilities.gather(1, target)[:, 0]

    for share in np.linspace(0, 1, bench.steps + 1).tolist():
        taken = (order < share).to(heard.spectrogram.log_magnitude)
        columns = {"deletion": probability(1 - taken), "insertion": probability(taken)}
        yield Measurement("share of bins", share, columns)


def randomization(bench: Bench, batch: ClipBatch) -> Iterator[Measurement]:
    """`rank_correlation` and `ssim` of the map to the original one, as layers are drawn anew from head to stem.

    Measured at `steps` places of the cascade; its end is one of them.
    """
    network = copy.deepcopy(bench.classifier)
    heard = bench.hear(batch.waveform)
    settling = bench.classifier.frontend.analyze(bench.settling)
    original = bench.importance(heard)
    cascade = layers(network)[::-1]
    drawn = []
    places = np.linspace(1, len(cascade), min(bench.steps, len(cascade))).round().astype(int).tolist()
    for count, (name, layer) in enumerate(cascade, start=1):
        torch.manual_seed(bench.seed + count)
        randomize(layer)
        drawn.append(layer)
        if count not in places:
            continue
        settle(drawn, lambda: network(settling))
        # the original class is explained, by what the changed network makes of the clip
        evidence = replace(heard.evidence, features=network(heard.spectrogram).features)
        importance = bench.importance(Heard(heard.spectrogram, evidence), network)
        columns = {
            "rank_correlation": rank_correlation(importance, original),
            "ssim": ssim(ranks(importance), ranks(original)),
        }
        yield Measurement("layers drawn afresh", count, columns, name)


def robustness(bench: Bench, batch: ClipBatch) -> Iterator[Measurement]:
    """FID-I ... AG on the changed clip, `prediction_kept`, and `rank_correlation` of its map to the clean clip's."""
    clean = bench.hear(batch.waveform)
    original = bench.explain(clean).importance.float()
    for kind in ("white", "mixture"):
        for snr_db in SNRS_DB:
            settings = ContaminationSettings(kind, bench.seed, snr_db)
            noise = Contamination(settings, bench.store, bench.part, bench.members)
            columns = _changed_scores(bench, clean, original, noise.apply(batch).waveform)
            yield Measurement(f"SNR in dB, {kind}", snr_db, columns)
    frontend = bench.classifier.frontend
    for seconds in LENGTHS_S:
        waveform, start = resized(batch.waveform, round(seconds * frontend.sample_rate), frontend.hop)
        expected = _moved_map(original, start, waveform.shape[1], batch.waveform.shape[1], frontend.hop)
        yield Measurement("length in s", seconds, _changed_scores(bench, clean, expected, waveform))


def _changed_scores(bench: Bench, clean: Heard, expected: Tensor, waveform: Tensor) -> dict[str, Tensor]:
    """Scores of changed clips [B, N]. expected: the map [B, T, F] of an explainer that the change does not disturb."""
    heard = bench.hear(waveform)
    interpretation = bench.explain(heard)
    relevant, residual = bench.classifier(interpretation.relevant), bench.classifier(interpretation.residual)
    scores = part_scores(heard.evidence, relevant, residual, heard.evidence.prediction)
    scores["prediction_kept"] = fidelity_to_input(clean.evidence.probabilities, heard.evidence.probabilities)
    scores["rank_correlation"] = rank_correlation(interpretation.importance.float(), expected)
    return scores


def resized(waveform: Tensor, samples: int, hop: int) -> tuple[Tensor, Tensor]:
    """Clips [B, N] at another length [B, samples], and the sample [B], a multiple of hop, at which each starts.

    A longer clip repeats itself from its start; a shorter one is its part of that length with the most energy.
    """
    start = torch.zeros(len(waveform), dtype=torch.long, device=waveform.device)
    if samples < waveform.shape[1]:
        energy_before = F.pad(waveform.double().square().cumsum(dim=1), (1, 0))
        energy_inside = energy_before[:, samples:] - energy_before[:, :-samples]
        start = energy_inside[:, ::hop].argmax(dim=1) * hop
    position = (start[:, None] + torch.arange(samples, device=waveform.device)) % waveform.shape[1]
    return waveform.gather(1, position), start


def _moved_map(original: Tensor, start: Tensor, samples: int, original_samples: int, hop: int) -> Tensor:
    """A clip's map [B, T, F] at the times that the clip of `resized` is made of."""
    times = start[:, None] + torch.arange(0, samples + 1, hop, device=start.device)
    if samples > original_samples:
        times = times % original_samples
    frames = (times // hop)[:, :, None].expand(-1, -1, original.shape[2])
    return original.gather(1, frames)


def stability(bench: Bench, batch: ClipBatch) -> Iterator[Measurement]:
    """Prediction and map under circular shifts, against the map moved by the nearest whole number of frames.

    `prediction_kept`, `rank_correlation` of the maps, and `max_change` of the map scaled to [0, 1].
    """
    frontend = bench.classifier.frontend
    heard = bench.hear(batch.waveform)
    original = bench.importance(heard)
    for milliseconds in SHIFTS_MS:
        samples = max(1, round(milliseconds * frontend.sample_rate / 1000))
        expected = original.roll(round(samples / frontend.hop), dims=1)
        shifted = bench.hear(batch.waveform.roll(samples, dims=1))
        importance = bench.importance(shifted)
        columns = {
            "prediction_kept": fidelity_to_input(heard.evidence.probabilities, shifted.evidence.probabilities),
            "rank_correlation": rank_correlation(importance, expected),
            "max_change": (unit_range(importance) - unit_range(expected)).abs().amax(dim=(1, 2)),
        }
        yield Measurement("shift in ms", 1000 * samples / frontend.sample_rate, columns)


CHECKS = {"curves": curves, "randomization": randomization, "robustness": robustness, "stability": stability}


def summarize_check(check: str, tables: Mapping[Setting, ClipTable]) -> dict[str, Tensor]:
    """One value a clip [clips] for every score of a check; where a check has several axes, for each of them.

    Along `curves` it is the area under the curve, of `randomization` the end of the cascade, otherwise the mean over
    the settings at which the score is defined.
    """
    by_axis: dict[str, dict[float, ClipTable]] = {}
    for (axis, value, _), table in tables.items():
        by_axis.setdefault(axis, {})[value] = table
    summary = {}
    for axis, settings in by_axis.items():
        first = next(iter(settings.values()))
        for score in SUMMARIZED.get(check, tuple(first.columns)):
            values = np.array([table.columns[score] for table in settings.values()])  # [settings, clips]
            name = f"{score}, {axis}" if len(by_axis) > 1 else score
            summary[name] = torch.from_numpy(_summarize(check, list(settings), values))
    return summary


def _summarize(check: str, settings: Sequence[float], values: np.ndarray) -> np.ndarray:
    """A score's values [settings, clips] as one value for each clip."""
    if check == "curves":
        return np.trapezoid(values, settings, axis=0)
    if check == "randomization":
        return values[-1]
    return np.ma.masked_invalid(values).mean(axis=0).filled(math.nan)
