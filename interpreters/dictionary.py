"""Dictionaries of spectra: non-negative matrix factorisation of frames, plain or with sparse activations."""

import warnings

import torch
from sklearn.decomposition import MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from models.errors import UsageError

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
