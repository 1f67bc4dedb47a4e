"""Dictionaries of spectra against planted parts, by hand, and against scikit-learn's lasso."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from interpreters import dictionary
from interpreters.dictionary import learn_dictionary, sparse_nmf
from models.errors import UsageError


def objective(examples: torch.Tensor, spectra: torch.Tensor, sparsity: float) -> float:
    """|X - W H|^2 / 2 + sparsity sum H at the best H, which scikit-learn finds."""
    bins = len(spectra)
    # its objective is this one divided by the number of bins
    lasso = Lasso(alpha=sparsity / bins, fit_intercept=False, positive=True, tol=1e-8, max_iter=20000)
    activations = lasso.fit(spectra.double().numpy(), examples.T.double().numpy()).coef_
    error = examples.double().numpy() - activations @ spectra.double().numpy().T
    return float(np.square(error).sum() / 2 + sparsity * activations.sum())


def unit(spectra: torch.Tensor) -> torch.Tensor:
    return spectra / spectra.norm(dim=0)


@pytest.fixture
def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [300, 12] that are sums of few of four overlapping spectra [12, 4], and these."""
    parts = unit(torch.rand(12, 4).pow(3))
    activations = 3 * torch.rand(300, 4) * (torch.rand(300, 4) < 0.4)
    return activations @ parts.T, parts


def test_one_component_by_hand():
    """Frames along one direction: the penalty shortens H by `sparsity`, and leaves W where it is."""
    frames = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    spectra = sparse_nmf(frames, torch.tensor([[0.8], [0.6]]), 0.5)
    torch.testing.assert_close(spectra, torch.tensor([[0.6], [0.8]]), atol=1e-5, rtol=0)
    # H = 4.5 and 9.5: 2 x 0.5^2 / 2 + 0.5 (4.5 + 9.5)
    assert objective(frames, spectra, 0.5) == pytest.approx(7.25, abs=1e-5)


def test_updates_bring_the_objective_down(planted, monkeypatch):
    frames, _ = planted
    start, values = unit(torch.rand(12, 4)), []
    for rounds in (0, 5, 20, 100, 400):
        monkeypatch.setattr(dictionary, "ROUNDS", rounds)
        values.append(objective(frames, sparse_nmf(frames, start, 0.3), 0.3))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.7 * values[0]


def test_a_sparse_dictionary_serves_sparse_activations_better_than_a_plain_one(planted):
    frames, parts = planted
    plain, sparse = (learn_dictionary(frames, 4, sparsity) for sparsity in (0.0, 0.8))
    assert objective(frames, sparse, 0.8) < objective(frames, plain, 0.8)
    alike = (parts.T @ sparse).amax(dim=1)  # the cosine of each planted spectrum and the nearest that was found
    assert alike.min() > 0.95
    for spectra in (plain, sparse):
        torch.testing.assert_close(spectra.norm(dim=0), torch.ones(4))
        assert spectra.min() >= 0


def test_a_sparse_dictionary_is_the_same_from_the_same_frames(planted):
    frames, _ = planted
    before = torch.get_rng_state()
    first = learn_dictionary(frames, 3, 0.8)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(first, learn_dictionary(frames, 3, 0.8))


def test_silence_among_the_frames_leaves_numbers():
    frames = torch.cat([torch.zeros(10, 6), torch.rand(20, 6)])
    frames[:, 5] = 0  # a bin that is never heard
    spectra = learn_dictionary(frames, 4, 0.8)
    assert spectra.isfinite().all()
    assert spectra[5].abs().max() < 1e-6


def test_more_components_than_bins_are_told():
    with pytest.raises(UsageError, match="components=7 are too many for 20 training frames and 6 frequency bins"):
        learn_dictionary(torch.rand(20, 6), 7, 0.8)
