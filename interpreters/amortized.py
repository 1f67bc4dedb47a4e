"""Amortised extremal perturbation: a network that names, for any class, the share of the plane that decides it.

What an extremal perturbation finds by optimising a mask for every clip (Fong, Patrick and Vedaldi, ICCV 2019), a
network learns to give at once (Dabkowski and Gal, Real Time Image Saliency, NeurIPS 2017, for images). It is shown the
class's activations in the classifier, so that it answers for any class and knows nothing that the classifier does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from interpreters.activation import class_activations
from interpreters.amortized_network import MaskNetwork, standardized
from interpreters.extremal import Cells, Extremal, Objective, Search, StartingMap
from interpreters.gradients import seeded
from interpreters.maps import MapInterpreter
from interpreters.mask_grid import MaskGrid
from interpreters.masking import checked_weights
from interpreters.relaxed import offset_for_area, relaxed_binary
from interpreters.removal import added, filled, scaled, shifted
from models.classifier import AudioClassifier, ClassifierInfo
from models.errors import UsageError
from models.frontend import Spectrogram
from models.settings import SettingsGroup

VALIDATION_SEED = 4
FINISH_SCALE = 2.0  # of the network's map where steps of a fixed rate start from it
MIXED_AT_DB = (-3.0, 9.0)  # lowest and highest SNR of clips that training mixes
SUREST = 1 - 1e-4  # a residual that the classifier is surer of is pushed no harder


@dataclass(frozen=True)
class NetworkShape(SettingsGroup):
    """What a mask network is made of.

    frames_per_cell, bands: of its grid (`MaskGrid`, which checks them). gated: how it hears loudness (`MaskNetwork`).
    """

    frames_per_cell: int = 8
    bands: int = 64
    gated: bool = False


@dataclass(frozen=True)
class MaskTask(SettingsGroup):
    """How the network is trained: what it is shown, and what its masks are judged by.

    areas: smallest and largest share of the plane, drawn evenly in log. removed: weight of what the removed part still
    says of the class. temperature: of the relaxed masks. mixed: share of the clips that are mixed with another one.
    runner_up: share of these that are explained for the second most likely class. infill: share of the clips in which
    another clip takes the place of what is removed. infill_steps: over which that share grows.
    """

    areas: Sequence[float] = (0.05, 0.4)
    removed: float = 1.0
    temperature: float = 0.5
    mixed: float = 0.5
    runner_up: float = 0.3
    infill: float = 0.5
    infill_steps: int = 600

    def check(self) -> None:
        if len(self.areas) != 2 or not 0 < self.areas[0] <= self.areas[1] < 1:
            raise UsageError(f"areas={self.areas!r} must be two numbers in (0, 1), the smaller one first")
        for name in ("mixed", "runner_up", "infill"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UsageError(f"{name}={share} must be in [0, 1]")
        if self.temperature <= 0 or self.removed < 0:
            raise UsageError(f"temperature={self.temperature} must be above 0 and removed={self.removed} 0 or more")


@dataclass(frozen=True)
class Finish(SettingsGroup):
    """Gradient steps (`Extremal`) on the map of every explained clip.

    They start from twice the network's map and `finish_level` times the log1p magnitude, each standardised.
    finish_steps: how many; 0: none. keep, hold: their weights of the class on the kept part and of staying near that
    start. margin: as `Objective` has it. chunk: clips that they take together.
    """

    finish_steps: int = 0
    finish_level: float = 1.0
    keep: float = 3.0
    hold: float = 0.3
    chunk: int = 1
    margin: float | None = None

    def check(self) -> None:
        if self.finish_steps < 0 or self.chunk < 1:
            raise UsageError(
                f"finish_steps={self.finish_steps} must be 0 (none) or more, and chunk={self.chunk} 1 or more"
            )
        checked_weights("AmortizedMask", keep=self.keep, hold=self.hold)

    def extremal(self, info: ClassifierInfo, area: float, network: NetworkShape) -> Extremal | None:
        """The search that keeps an area on the network's grid; None where no step is taken."""
        if not self.finish_steps:
            return None
        search = Search(area, self.finish_steps, chunk=self.chunk)
        cells = Cells((network.frames_per_cell, 1), network.bands)
        return Extremal(
            info, search, cells, StartingMap("flat"), Objective(keep=self.keep, hold=self.hold, margin=self.margin)
        )


class AmortizedMask(MapInterpreter):
    """Importance from a trained network, cut at fixed areas as every map is.

    A training step: some clips are mixed with the next one of the batch; each is explained for its predicted class, or,
    in a share `runner_up` of the mixtures, for the second most likely one. An area is drawn, the network's logits are
    offset to have just that area, and a relaxed binary mask M is drawn from them. Loss per clip, c the class:

        kept        CE(f(M X), c)
        removed   - w log(1 - f_c((1 - M) X)), whose gradient is bounded where that of -CE is not

    Each clip is judged by one of its two parts, drawn at random and counted twice: half the cost, the same expectation.
    In a growing share of the clips, up to `infill` after `infill_steps`, what M removes is not silent but another clip
    of the batch, so that what is kept must be preferred to a rival.

    area: what the network is asked for when it explains, a share of the plane. Bundles from before `NetworkShape.gated`
    say nothing of it and have False.

    Raises UsageError for an area out of range.
    """

    requires = frozenset({"maps", "gradient"})
    trainable = True
    training_settings = frozenset(field.name for field in fields(MaskTask))
    answers_any_class = True
    steps: Tensor

    def __init__(
        self,
        info: ClassifierInfo,
        quantile: float | Sequence[float] | None = 0.8,
        area: float = 0.2,
        task: MaskTask = MaskTask(),
        finish: Finish = Finish(),
        network: NetworkShape = NetworkShape(),
    ):
        super().__init__(info, quantile)
        if not 0 < area < 1:
            raise UsageError(f"area={area} must lie between 0 and 1")
        self.area, self.task, self.finish = area, task, finish
        self.grid = MaskGrid(info.n_fft // 2 + 1, info.sample_rate, network.frames_per_cell, network.bands)
        self.network = MaskNetwork(info, self.grid, network.gated)
        self.finishing = finish.extremal(info, area, network)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def cells(self, classifier: AudioClassifier, spectrogram: Spectrogram, target: Tensor, area: float) -> Tensor:
        """[B, rows, bands] logits on the grid for the classes asked about."""
        _, activations = class_activations(classifier, spectrogram, lambda logits: target)
        areas = torch.full((len(spectrogram),), area, device=target.device)
        return self.network(spectrogram.log_magnitude, activations, areas)

    def importance(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        cells = self.cells(classifier, spectrogram, target, self.area)
        if self.finishing is not None:
            level = self.grid.pool(spectrogram.log_magnitude)
            learned, loud = (standardized(plane.detach().unsqueeze(1)).squeeze(1) for plane in (cells, level))
            start = FINISH_SCALE * learned + self.finish.finish_level * loud
            return self.finishing.improved(classifier, spectrogram, target, start)
        return self.grid.enlarge(cells, spectrogram.log_magnitude.shape[1])

    def loss(self, classifier, spectrogram, evidence, clean=None):
        if self.training:
            terms = self._terms(classifier, spectrogram)
            self.steps += 1
            return terms
        with seeded(VALIDATION_SEED, spectrogram.log_magnitude.device):
            return self._terms(classifier, spectrogram)

    def _terms(self, classifier: AudioClassifier, spectrogram: Spectrogram) -> dict[str, Tensor]:
        """The loss's terms, each [B], for one draw of mixtures, classes, areas and masks."""
        heard, mixed = self._some_mixed(spectrogram)
        target, activations = class_activations(
            classifier, heard, lambda logits: self._asked_in_training(logits, mixed)
        )
        area = self._drawn_areas(len(heard)).to(heard.log_magnitude)
        logits = self.network(heard.log_magnitude, activations, area)
        offset = offset_for_area(logits.detach(), area, self.grid.share(heard.log_magnitude.shape[1]))
        cells = relaxed_binary(logits - offset[:, None, None], self.task.temperature)
        mask = self.grid.enlarge(cells, heard.log_magnitude.shape[1])
        is_kept = torch.rand(len(heard), device=mask.device) < 0.5
        part = self._part(heard, torch.where(is_kept[:, None, None], mask, 1 - mask), is_kept)
        answer = classifier(part)
        cross_entropy = answer.surprise(target)
        probability = answer.probabilities.gather(1, target[:, None]).squeeze(1)
        still_sure = -torch.log(1 - probability.clamp(max=SUREST))
        # twice, because each part is heard in half of the clips
        return {"kept": 2 * cross_entropy * is_kept, "removed": 2 * self.task.removed * still_sure * ~is_kept}

    def _some_mixed(self, spectrogram: Spectrogram) -> tuple[Spectrogram, Tensor]:
        """The clips, a share of them mixed with the next one of the batch at an SNR drawn for each; [B] which.

        All are first shifted in a circle, and the next one by another time, so that pairs never repeat.
        """
        size, frames = spectrogram.log_magnitude.shape[:2]
        device = spectrogram.log_magnitude.device
        first, second = torch.randint(frames, (2,)).tolist()
        own = shifted(spectrogram, frames=first)
        rival = shifted(spectrogram, clips=1, frames=second)
        lowest, highest = MIXED_AT_DB
        snr_db = lowest + (highest - lowest) * torch.rand(size, device=device)
        chosen = torch.rand(size, device=device) < self.task.mixed
        powers = [sound.magnitude.square().mean(dim=(1, 2)) for sound in (own, rival)]
        ratio = (powers[0] / powers[1].clamp(min=1e-12)).sqrt().clamp(max=1e3)
        gain = torch.where(chosen, ratio * 10 ** (-snr_db / 20), 0.0)
        return added(own, scaled(rival, gain)), chosen

    def _asked_in_training(self, logits: Tensor, mixed: Tensor) -> Tensor:
        """[B] the predicted class of logits [B, K], or in a share of the mixtures the second most likely one."""
        likely = logits.topk(2, dim=1).indices
        second = mixed & (torch.rand(len(logits), device=logits.device) < self.task.runner_up)
        return torch.where(second, likely[:, 1], likely[:, 0])

    def _drawn_areas(self, size: int) -> Tensor:
        low, high = (torch.tensor(area).log() for area in self.task.areas)
        return (low + (high - low) * torch.rand(size)).exp()

    def _part(self, heard: Spectrogram, mask: Tensor, is_kept: Tensor) -> Spectrogram:
        """What the mask shows of the clips; for some of those in `is_kept` [B], with another clip in the rest."""
        progress = min(1.0, self.steps.item() / max(1, self.task.infill_steps)) if self.training else 1.0
        chosen = is_kept & (torch.rand(len(heard), device=mask.device) < self.task.infill * progress)
        if not chosen.any():
            return heard.masked(mask)
        gain = 10 ** (-torch.rand(len(heard), device=mask.device))  # 0 to -20 dB
        return filled(heard, mask, scaled(shifted(heard, clips=-1), torch.where(chosen, gain, 0.0)))
