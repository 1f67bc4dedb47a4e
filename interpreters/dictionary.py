"""Dictionaries of spectra: factorised frames, with plain or sparse activations, or learned together with an encoder."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.decomposition import MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning
from speechbrain.lobes.models.L2I import NMFDecoderAudio, NMFEncoder
from torch import Tensor, nn

from models.errors import UsageError
from models.frontend import Spectrogram
from models.pretrained import load_parts

ROUNDS = 100
"""Updates of a factorisation: a budget, not a promise that it has settled."""

SMALLEST = 1e-8


def learn_dictionary(examples: Tensor, components: int, sparsity: float) -> Tensor:
    """W [F, K], 0 or more with columns of length 1, of a factorisation of frames, always the same from the same frames.

    examples: frames [n, F], 0 or more. sparsity: 0 for scikit-learn's `MiniBatchNMF`, else the penalty of `sparse_nmf`.
    Raises UsageError for more components than frames or frequency bins.
    """
    if components > min(examples.shape):
        data = f"{len(examples)} training frames and {examples.shape[1]} frequency bins"
        raise UsageError(f"components={components} are too many for {data}: use fewer")
    spectra = _minibatch_nmf(examples, components)
    if sparsity:
        spectra = sparse_nmf(examples, _unit(spectra), sparsity)
    return _unit(spectra)


def _minibatch_nmf(examples: Tensor, components: int) -> Tensor:
    factors = MiniBatchNMF(components, init="nndsvda", batch_size=2048, max_iter=ROUNDS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(factors.fit(examples.numpy()).components_.T)


def _unit(spectra: Tensor) -> Tensor:
    """Columns of length 1."""
    return spectra / spectra.norm(dim=0).clamp(min=SMALLEST)


def sparse_nmf(examples: Tensor, start: Tensor, sparsity: float) -> Tensor:
    """W of least |X - W H|^2 / 2 + sparsity sum H with columns of length 1, near a start.

    The length is part of the problem: else W would grow as H shrinks, and the penalty would mean nothing. The updates
    are the multiplicative ones of Le Roux, Weninger and Hershey, Sparse NMF, MERL TR2015-023, for the squared distance.

    examples: X transposed, [n, F]. start: W [F, K], columns of length 1.
    """
    frames, spectra = examples.T, start.clamp(min=SMALLEST)  # [F, n], [F, K]; a product never leaves 0
    activations = torch.full((spectra.shape[1], frames.shape[1]), frames.mean().item())
    for _ in range(ROUNDS):
        activations = activations * (spectra.T @ frames) / (spectra.T @ spectra @ activations + sparsity)
        toward = frames @ activations.T  # [F, K], what raises W
        away = spectra @ (activations @ activations.T)  # [F, K], what lowers it
        # the gradient along a column's own direction is left out, since the column keeps its length
        toward, away = toward + spectra * (spectra * away).sum(dim=0), away + spectra * (spectra * toward).sum(dim=0)
        spectra = _unit(spectra * toward / away.clamp(min=SMALLEST))
    return spectra


class EncoderDictionary(nn.Module):
    """W learned together with an encoder E of whole clips: least mean (X - W E(X))^2, X the log1p magnitude.

    Networks and training are those of SpeechBrain's `train_nmf.py` (`recipes/ESC50/interpret`, 9c826ef39): E is three
    convolutions along time, W and H are cut at 0, Adam has a weight decay, gradients are clipped, and nothing asks for
    sparse activations or for columns of length 1. Two things differ: the clips have the classifier's rate, there 44.1
    kHz, and the last round is kept, there the one with the smallest error on validation clips.

    Arguments
    ---------
    bins, components: F and K of W [F, K].
    rounds: passes over the training clips. rate: of Adam. clips_at_once: of a step.
    weights: path of a released `nmf_decoder.ckpt`, whose W is taken in place of learning one; or None.

    Raises UsageError for rounds or clips_at_once below 1, and for a rate that is not above 0.
    """

    WEIGHT_DECAY = 2e-6
    MAX_GRAD_NORM = 5.0
    """What SpeechBrain's Brain clips to where a recipe does not say otherwise."""

    def __init__(
        self,
        bins: int,
        components: int,
        rounds: int = 300,
        rate: float = 5e-5,
        clips_at_once: int = 2,
        weights: str | None = None,
    ):
        super().__init__()
        if rounds < 1 or clips_at_once < 1 or rate <= 0:
            raise UsageError(
                f"rounds={rounds} and clips_at_once={clips_at_once} must be 1 or more, and rate={rate} above 0, in an "
                "encoder's dictionary"
            )
        self.rounds, self.rate, self.clips_at_once, self.weights = rounds, rate, clips_at_once, weights
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)  # that of the CPU alone
            self.encoder = NMFEncoder(bins, components)
            self.decoder = NMFDecoderAudio(components, bins)

    def learn(self, spectrograms: Iterable[Spectrogram]) -> Tensor:
        """W [F, K], 0 or more, always the same from the same clips, which must have one length and stay in memory.

        Raises UsageError where `weights` are missing or of another shape.
        """
        if self.weights is not None:
            path = Path(self.weights)
            load_parts({path.name: self.decoder}, path.parent)
        else:
            self._fit(torch.cat([batch.log_magnitude.float().cpu() for batch in spectrograms]))
        return self.decoder.return_W().detach()

    def _fit(self, clips: Tensor) -> None:
        """clips: X [n, T, F]."""
        device = self.decoder.W.device
        draw = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(self.parameters(), self.rate, weight_decay=self.WEIGHT_DECAY)
        for _ in range(self.rounds):
            for chosen in torch.randperm(len(clips), generator=draw).split(self.clips_at_once):
                heard = clips[chosen].to(device).transpose(1, 2)  # [B, F, T]
                with warnings.catch_warnings():  # an even kernel that keeps the length copies its input
                    warnings.simplefilter("ignore", UserWarning)
                    activations = self.encoder(heard)
                error = F.mse_loss(self.decoder(activations), heard)
                optimizer.zero_grad()
                error.backward()
                nn.utils.clip_grad_norm_(self.parameters(), self.MAX_GRAD_NORM)
                optimizer.step()
