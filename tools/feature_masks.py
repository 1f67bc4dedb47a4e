"""Masks on what the network itself hears against masks on the linear STFT, for the AudioSet MobileNets.

    python -m tools.feature_masks hparams/grad_cam.yaml --data_folder=path/to/ESC-50 [--clips=100] [--area=0.2]

A MobileNet hears log mel bands of the sound that is synthesised from a spectrogram. Here a map is cut at one share of
each of two planes, and its mask is put in three places:

    features        cells of the network's own input, frames of 10 ms by mel bands; what is removed has the value of
                    silence. No sound has this spectrum, and neighbouring frames and bands do not see it.
    stft            bins of the linear STFT, as interpreters put it: what is removed is silent, and the rest is
                    synthesised, with frames and bands that overlap.
    features, heard the mask of `features` as a mask of the STFT: every bin has the value of the cell that its time and
                    frequency lie in. So the choice is the same, and only the place differs.

Mel bands above half the sample rate, which next to no sound reaches, are no part of the plane: they are kept where the
band below them is. The recipe's method is
Grad-CAM or input x gradient, and takes its map at the plane that it cuts; the same is done with the loudest cells and
bins. Clean test clips, evenly spaced over the folds, and the same mixed with another at 0 dB. Intervals are 95 %
bootstrap intervals over recordings; `differences` are those of clips in pairs.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from interpreters.activation import class_activations
from interpreters.fixed_area import top_share
from interpreters.gradients import Gradient
from interpreters.interpolation import resize_map
from interpreters.mask_grid import mel_position
from interpreters.metrics import average_drop, average_increase, faithfulness, fidelity_to_input
from models.classifier import AudioClassifier
from models.errors import UsageError
from models.mobilenet import PreemphasisMelAdapter
from recipes.config.recipe import load_recipe
from recipes.data.corpus import evenly_spaced
from recipes.runs.facts import commit, device_name
from recipes.runs.heard_clips import HeardClips
from recipes.runs.trained import open_trained_run
from recipes.scoring.fixed_area import KINDS_OF_CLIPS, Heard
from recipes.scoring.statistics import bootstrap_interval
from recipes.system.entry import entry
from tools.runner import check_out, positive, report_result, tool_parser

METHODS = ("grad_cam", "input_x_gradient")
PLACES = ("features", "stft", "features, heard")
"""Where a mask is put; see above."""


class FeaturePlane:
    """The network's own input of B clips as a plane [B, t, M] of frames of 10 ms and the mel bands that sounds reach.

    image: [B, 1, bands, t] what it hears, all bands. silence: what it hears of silence, a number.

    Raises UsageError for a classifier that does not hear the mel bands of `PreemphasisMelAdapter`.
    """

    def __init__(self, classifier: AudioClassifier, heard: Heard):
        adapter = getattr(classifier, "adapter", None)
        if not isinstance(adapter, PreemphasisMelAdapter):
            raise UsageError("masks on features are made for the AudioSet MobileNets: give the bundle of one")
        self.classifier, self.adapter = classifier, adapter
        frontend = classifier.frontend
        self.image = adapter(heard.spectrogram)
        silent = adapter(heard.spectrogram[:1].masked(torch.zeros(1, 1, 1)))
        self.silence = silent.mean().item()
        self.bands = self.audible_bands(frontend.sample_rate / 2)
        self.band_of_bin = self.nearest_band(frontend.num_bins, frontend.sample_rate / 2)
        self.frame_of_frame = self.nearest_frame(heard.spectrogram.log_magnitude.shape[1])

    @property
    def values(self) -> Tensor:
        """[B, t, M] what the network hears."""
        return self.image[:, 0, : self.bands].transpose(1, 2)

    def band_centres(self) -> Tensor:
        """[bands] where the bands' peaks lie on the mel axis of the adapter, whose ends are 0 and 1."""
        bands = self.adapter.num_mels
        return torch.arange(1, bands + 1) / (bands + 1)

    def audible_bands(self, nyquist: float) -> int:
        """M: how many bands have their peak below that frequency in Hz."""
        limit = mel_position(torch.tensor(nyquist), self.adapter.mel_top)
        return int((self.band_centres() < limit).sum())

    def nearest_band(self, bins: int, nyquist: float) -> Tensor:
        """[F] of every bin of the STFT the band whose peak is nearest on the mel axis."""
        position = mel_position(torch.linspace(0, nyquist, bins), self.adapter.mel_top)
        spacing = 1 / (self.adapter.num_mels + 1)
        return (position / spacing - 1).round().long().clamp(0, self.bands - 1)

    def nearest_frame(self, frames: int) -> Tensor:
        """[T] of every frame of the STFT the network's frame whose middle is nearest."""
        frontend = self.classifier.frontend
        seconds = torch.arange(frames) * frontend.hop / frontend.sample_rate
        step = self.adapter.hop / self.adapter.sample_rate
        return (seconds / step).round().long().clamp(max=self.image.shape[3] - 1)

    def on_stft(self, mask: Tensor) -> Tensor:
        """A mask [B, t, M] as one of the STFT, [B, T, F]."""
        return mask[:, self.frame_of_frame][:, :, self.band_of_bin]

    def logits(self, image: Tensor) -> Tensor:
        """[B, K] what the network says of an image [B, 1, bands, t]."""
        return self.classifier.head(self.classifier.backbone(image).embedding)

    def masked(self, mask: Tensor) -> Tensor:
        """The image with the value of silence where the mask [B, t, M] is 0."""
        above = mask[:, :, -1:].expand(-1, -1, self.adapter.num_mels - self.bands)
        whole = torch.cat([mask, above], dim=2).transpose(1, 2).unsqueeze(1)
        return self.silence + whole * (self.image - self.silence)


def feature_importance(method: str, plane: FeaturePlane, heard: Heard) -> Tensor:
    """[B, t, M] the importance of the cells for the predicted class, by one of `METHODS` or loudness."""
    if method == "loudest":
        return plane.values
    target = heard.evidence.prediction
    if method == "grad_cam":
        _, activations = class_activations(plane.classifier, heard.spectrogram, lambda logits: target)
        frames, bands = plane.values.shape[1], plane.adapter.num_mels
        return resize_map(activations[-1].cam.relu(), frames, bands)[:, :, : plane.bands]
    with torch.enable_grad():
        image = plane.image.detach().requires_grad_()
        score = plane.logits(image).gather(1, target[:, None]).sum()
        (slope,) = torch.autograd.grad(score, image)
    return (plane.values - plane.silence) * slope[:, 0, : plane.bands].transpose(1, 2)


def scores_of(hear: Callable[[Tensor], Tensor], mask: Tensor, whole: Tensor) -> dict[str, Tensor]:
    """FID-I, FA, AI and AD of a mask [B, ., .], and its share of its plane, [B] each.

    hear: from a mask to the probabilities [B, K] of what it leaves. whole: [B, K] those of the whole clips.
    """
    kept, removed = hear(mask), hear(1 - mask)
    return {
        "fid_i": fidelity_to_input(whole, kept),
        "fa": faithfulness(whole, removed),
        "ai": average_increase(whole, kept),
        "ad": average_drop(whole, kept),
        "share": mask.mean(dim=(1, 2)),
    }


def score_masks(plane: FeaturePlane, heard: Heard, feature_mask: Tensor, stft_mask: Tensor) -> dict:
    """By each of `PLACES` the scores [B] of masks of the features [B, t, M] and of the STFT [B, T, F]."""

    def hear_features(mask: Tensor) -> Tensor:
        return heard.evidence.labels.probabilities(plane.logits(plane.masked(mask)))

    def hear_stft(mask: Tensor) -> Tensor:
        return plane.classifier(heard.spectrogram.masked(mask)).probabilities

    whole = heard.evidence.probabilities
    return {
        "features": scores_of(hear_features, feature_mask, whole),
        "stft": scores_of(hear_stft, stft_mask, whole),
        "features, heard": scores_of(hear_stft, plane.on_stft(feature_mask), whole),
    }


@torch.no_grad()
def score_kind(clips: HeardClips, interpreter: Gradient, kind: str, area: float) -> list[dict]:
    """A row for the method and for loudness at each place, on clean clips or mixtures."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    recordings: list = []
    for batch, heard in clips.batches(kind, with_fillings=False):
        plane = FeaturePlane(clips.classifier, heard)
        maps = {
            interpreter.method: interpreter.importance(clips.classifier, heard.spectrogram, heard.evidence),
            "loudest": heard.spectrogram.log_magnitude,
        }
        for method, of_stft in maps.items():
            feature_mask = top_share(feature_importance(method, plane, heard), area)
            for place, scores in score_masks(plane, heard, feature_mask, top_share(of_stft, area)).items():
                columns = values.setdefault((method, place), {})
                for name, column in scores.items():
                    columns.setdefault(name, []).extend(column.tolist())
        for index in batch.index.tolist():
            recordings.append(clips.run.store.corpus.clips[index].group)
    rows = []
    for (method, place), columns in values.items():
        row: dict = {"clips": kind, "method": method, "place": place} | summary(columns, recordings)
        if place != "stft":
            row["differences"] = differences(columns, values[method, "stft"], recordings)
        rows.append(row)
    return rows


def summary(columns: dict[str, list[float]], recordings: list) -> dict:
    """Every score's mean, and under `intervals` its [low, high]."""
    means: dict = {}
    intervals = {}
    for name, column in columns.items():
        interval = bootstrap_interval(np.array(column), recordings)
        means[name] = round(interval["mean"], 4)
        intervals[name] = [round(interval["low"], 4), round(interval["high"], 4)]
    return means | {"intervals": intervals}


def differences(columns: dict[str, list[float]], others: dict[str, list[float]], recordings: list) -> dict:
    """Every score less another place's, clip by clip, as `summary` has it."""
    paired = {}
    for name, column in columns.items():
        paired[name] = (np.array(column) - np.array(others[name])).tolist()
    return summary(paired, recordings)


def measure(arguments: list[str], options: argparse.Namespace) -> dict:
    """The result of a recipe of Grad-CAM or input x gradient. Raises UsageError for another one."""
    run = open_trained_run(load_recipe(arguments))
    interpreter = run.interpreter
    if not isinstance(interpreter, Gradient) or interpreter.method not in METHODS:
        raise UsageError(f"{arguments[0]} is none of {', '.join(METHODS)}, which have a map on the features")
    chosen = evenly_spaced(run.clips("test"), options.clips)
    clips = HeardClips(run, "test", chosen)
    rows = []
    for kind in KINDS_OF_CLIPS:
        rows += score_kind(clips, interpreter, kind, options.area)
    return {
        "classifier": run.subject.info.source["experiment"],
        "commit": commit(),
        "torch": torch.__version__,
        "device": device_name(run.device),
        "seed": clips.seed,
        "folds": run.folds("test"),
        "clips": len(chosen),
        "area": options.area,
        "rows": rows,
    }


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("feature_masks", __doc__)
    parser.add_argument("--clips", type=positive, default=100, help="test clips, evenly spaced over the folds")
    parser.add_argument("--area", type=float, default=0.2, help="share of a plane that is kept")
    options, recipe = parser.parse_known_args(arguments)
    check_out(options.out)
    if not 0 < options.area < 1:
        raise UsageError(f"--area={options.area} must be above 0 and below 1")
    report_result(measure(recipe, options), options.out)


if __name__ == "__main__":
    entry(main)
