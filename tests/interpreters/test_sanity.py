"""What checks are made of, against references and by construction."""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn

from interpreters.sanity import importance_order, layers, randomize, rank_correlation, ranks, settle, ssim, unit_range


def test_rank_correlation_is_scipys_also_with_equal_values():
    first = torch.rand(3, 12, 15)
    second = (first + torch.rand(3, 12, 15)).mul(5).round()
    found = rank_correlation(first, second)
    for k in range(3):
        expected = spearmanr(first[k].flatten().numpy(), second[k].flatten().numpy()).statistic
        assert found[k].item() == pytest.approx(expected)


def test_rank_correlation_sees_order_alone():
    maps = torch.rand(1, 12, 15)
    assert rank_correlation(maps, maps.exp() * 7).item() == pytest.approx(1)
    assert rank_correlation(maps, -maps).item() == pytest.approx(-1)
    assert rank_correlation(maps, torch.ones_like(maps)).isnan().item()


def test_ranks_by_hand():
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])
    assert ranks(maps).tolist() == [[[0.125, 0.875], [0.5, 0.5]]]
    assert torch.equal(ranks(maps.exp() * 7), ranks(maps))


def test_the_ssim_of_ranks_sees_that_spiky_maps_have_nothing_in_common():
    first, second = (torch.randn(1, 40, 60).abs() ** 8 for _ in range(2))
    assert ssim(unit_range(first), unit_range(second)).item() > 0.5
    assert abs(ssim(ranks(first), ranks(second)).item()) < 0.1
    assert ssim(ranks(first), ranks(first)).item() == pytest.approx(1)


def test_ssim_is_scikit_images():
    first = torch.rand(3, 20, 33)
    second = (first + 0.3 * torch.rand(3, 20, 33)).clamp(max=1)
    found = ssim(first, second)
    for k in range(3):
        expected = structural_similarity(
            first[k].double().numpy(), second[k].double().numpy(), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1.0,
        )  # fmt: skip
        assert found[k].item() == pytest.approx(expected, abs=1e-5)
    assert ssim(first, first).tolist() == pytest.approx([1, 1, 1])


def test_unit_range():
    maps = torch.stack([torch.tensor([[-1.0, 0.0], [1.0, 3.0]]), torch.full((2, 2), 5.0)])
    assert unit_range(maps).tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]]


def test_importance_order_by_hand_and_ties_at_random():
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    assert importance_order(maps).tolist() == [[[0.75, 0], [0.25, 0.5]]]
    flat = torch.zeros(2, 10, 10)
    order = importance_order(flat, seed=1)
    assert sorted(order[0].flatten().tolist()) == pytest.approx([k / 100 for k in range(100)])
    assert torch.equal(order[0], order[1])
    assert torch.equal(order, importance_order(flat, seed=1))
    assert not torch.equal(order, importance_order(flat, seed=2))
    assert (order[0].flatten().diff() > 0).float().mean() < 0.7  # not the order of time


class Token(nn.Module):
    """A parameter that no `reset_parameters` knows."""

    def __init__(self):
        super().__init__()
        self.token, self.scale = nn.Parameter(3 + 0.1 * torch.randn(1000)), nn.Parameter(torch.tensor([30.0]))
        self.linear = nn.Linear(4, 4)


def test_layers_are_every_parameter_once_from_stem_to_head(classifier):
    found = layers(classifier)
    own = [id(one) for _, layer in found for one in layer.parameters(recurse=False)]
    assert sorted(own) == sorted(id(one) for one in classifier.parameters())
    names = [name for name, _ in found]
    assert names[-1].startswith("head") and names[0].startswith(("adapter", "backbone"))


def test_randomizing_forgets_all_that_was_learned(classifier):
    torch.manual_seed(1)
    before = copy.deepcopy(classifier)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn_like(parameter))
    learned = copy.deepcopy(classifier)
    for seed, (_, layer) in enumerate(layers(classifier)):
        torch.manual_seed(seed)
        randomize(layer)
    pairs = list(zip(classifier.parameters(), learned.parameters(), before.parameters(), strict=True))
    assert all(not torch.equal(now, then) for now, then, _ in pairs if now.numel() > 1)
    assert all(now.isfinite().all() for now, _, _ in pairs)
    again = copy.deepcopy(learned)
    for seed, (_, layer) in enumerate(layers(again)):
        torch.manual_seed(seed)
        randomize(layer)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), classifier.parameters(), strict=True))


def test_a_parameter_of_its_own_keeps_its_mean_and_deviation():
    module = Token()
    old = module.token.clone()
    linear = module.linear.weight.clone()
    randomize(module)
    assert not torch.equal(module.token, old)
    assert module.token.mean().item() == pytest.approx(3, abs=0.02)
    assert module.token.std().item() == pytest.approx(0.1, abs=0.01)
    assert module.scale.item() == 30
    # a layer is its own parameters, not its children's
    assert torch.equal(module.linear.weight, linear)


def test_batch_norm_forgets_its_statistics():
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 5, 5) + 7)
    randomize(norm)
    assert norm.running_mean.tolist() == [0, 0, 0]


def test_settled_batch_norms_pass_on_what_has_unit_deviation():
    network = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.BatchNorm1d(6)).eval()
    given, parts = 0.1 * torch.randn(200, 6) + 3, [network[2], network[3]]
    kept = copy.deepcopy(network[1].state_dict())
    settle(parts, lambda: network(given))
    torch.testing.assert_close(network(given).std(dim=0, correction=0), torch.full((6,), 1.0), atol=0.05, rtol=0)
    assert all(torch.equal(value, kept[name]) for name, value in network[1].state_dict().items())
    assert not any(one.training for one in network.modules()) and network[3].momentum == 0.1
