"""Scores of explanations, by hand: values, the ends of their ranges, and what is refused."""

import math

import pytest
import torch

from interpreters.metrics import (
    average_drop,
    average_gain,
    average_increase,
    complexity,
    faithfulness,
    fidelity_to_input,
    kept_fraction,
    sparseness,
)

OF_PARTS = (fidelity_to_input, faithfulness, average_increase, average_drop, average_gain)

# Three clips of three classes; the predicted class c is 0, 1 and 2, with f_c(x) = 0.8, 0.5 and 0.4.
WHOLE = torch.tensor([[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.3, 0.3, 0.4]])
RELEVANT = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]])
RESIDUAL = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]])


def certain(*classes: int) -> torch.Tensor:
    """Probability 1 for these of three classes."""
    return torch.eye(3)[list(classes)]


def approximately(*values: float):
    return pytest.approx(list(values), abs=1e-4)


def test_every_score_by_hand():
    assert fidelity_to_input(WHOLE, RELEVANT).tolist() == [1, 0, 1]
    assert faithfulness(WHOLE, RESIDUAL).tolist() == approximately(0.6, -0.3, 0.4)
    assert average_increase(WHOLE, RELEVANT).tolist() == [100, 0, 0]
    assert average_drop(WHOLE, RELEVANT).tolist() == approximately(0, 100 * 0.2 / 0.5, 0)
    assert average_gain(WHOLE, RELEVANT).tolist() == approximately(100 * 0.1 / 0.2, 0, 0)


def test_the_class_that_counts_is_the_one_predicted_on_the_whole():
    # The relevant part is certain, but of another class.
    whole, relevant = torch.tensor([[0.6, 0.4, 0.0]]), certain(1)
    assert fidelity_to_input(whole, relevant).tolist() == [0]
    assert faithfulness(whole, relevant).tolist() == approximately(0.6)
    assert average_drop(whole, relevant).tolist() == [100]
    assert average_gain(whole, relevant).tolist() == average_increase(whole, relevant).tolist() == [0]


def test_the_ends_of_the_ranges_are_reached():
    assert faithfulness(certain(0), certain(1)).tolist() == [1]
    nearly_even = torch.tensor([[0.34, 0.33, 0.33]])
    assert faithfulness(nearly_even, certain(0)).tolist() == approximately(-0.66)
    assert average_drop(certain(0), certain(1)).tolist() == [100]
    assert average_gain(nearly_even, certain(0)).tolist() == approximately(100)
    assert average_increase(nearly_even, certain(0)).tolist() == [100]


def test_a_certain_prediction_divides_by_nothing():
    for part in (certain(0), certain(1), torch.tensor([[0.5, 0.25, 0.25]])):
        assert average_gain(certain(0), part).tolist() == [0]
        assert average_increase(certain(0), part).tolist() == [0]
    slightly_more = torch.tensor([[1.0, 1e-6, 0.0]])
    assert average_gain(slightly_more, certain(0)).tolist() == [0]
    nearly = torch.tensor([[1 - 2**-24, 2**-24, 0.0]])
    assert average_gain(nearly, certain(0)).tolist() == approximately(100)


def test_an_equal_part_neither_gains_nor_drops():
    for score in (average_increase, average_drop, average_gain, faithfulness):
        assert score(WHOLE, WHOLE).tolist() == [0, 0, 0]
    assert fidelity_to_input(WHOLE, WHOLE).tolist() == [1, 1, 1]


def test_fidelity_looks_at_the_relevant_part_and_faithfulness_at_the_residual():
    """Who exchanges the two parts gets other numbers."""
    good = {"relevant": certain(0), "residual": certain(1)}
    whole = torch.tensor([[0.8, 0.1, 0.1]])
    assert fidelity_to_input(whole, good["relevant"]).item() == 1
    assert fidelity_to_input(whole, good["residual"]).item() == 0
    assert faithfulness(whole, good["residual"]).item() == pytest.approx(0.8)
    assert faithfulness(whole, good["relevant"]).item() == pytest.approx(-0.2)


@pytest.mark.parametrize("score", OF_PARTS[1:])
def test_whole_and_part_may_not_be_exchanged(score):
    assert score(WHOLE, RESIDUAL).tolist() != score(RESIDUAL, WHOLE).tolist()


@pytest.mark.parametrize("score", OF_PARTS)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (torch.tensor([0, 1, 2]), r"must be probabilities \[B, K\], got torch\.int64 \(3,\)"),
        (torch.eye(3, dtype=torch.long), r"must be probabilities \[B, K\], got torch\.int64"),
        (torch.randn(3, 3) * 30, r"rows in \[0, 1\] that sum to 1 \(softmax the logits once\)"),
        (torch.tensor([[1.5, -0.5, 0.0]] * 3), r"rows in \[0, 1\] that sum to 1"),
        (torch.full((3, 3), float("nan")), r"rows in \[0, 1\] that sum to 1"),
        (WHOLE[:2], r"p_input, p_\w+ must have one shape, got \[\(2, 3\), \(3, 3\)\]"),
        (WHOLE[:1], "must have one shape"),
    ],
)
def test_anything_but_probabilities_is_refused(score, place, wrong, sentence):
    arguments = [WHOLE, WHOLE]
    arguments[place] = wrong
    with pytest.raises(ValueError, match=sentence):
        score(*arguments)


def test_sparseness_is_the_gini_index():
    # Sorted 0 0 1 3: sum of (2 rank - n - 1) x value = 1 + 9 over n sum = 16. One bin of n: 1 - 1 / n.
    mask = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 5.0]], [[0.7, 0.7], [0.7, 0.7]]])
    assert sparseness(mask).tolist() == approximately(10 / 16, 3 / 4, 0)


def test_complexity_is_the_entropy_in_nats():
    mask = torch.tensor([[[0.5, 0.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 5.0]], [[0.7, 0.7], [0.7, 0.7]]])
    assert complexity(mask).tolist() == approximately(math.log(2), 0, math.log(4))


@pytest.mark.parametrize("score", [sparseness, complexity])
def test_shape_scores_depend_on_neither_scale_sign_nor_order(score):
    mask = torch.rand(2, 6, 5)
    expected = score(mask).tolist()
    shuffled = mask.flatten(1)[:, torch.randperm(30)].view(2, 5, 6)
    for changed in (1000 * mask, -mask, shuffled, mask.double()):
        assert score(changed).tolist() == pytest.approx(expected, rel=1e-6)


def test_degenerate_masks():
    masks = torch.stack([torch.zeros(431, 513), torch.ones(431, 513), torch.full((431, 513), 0.3)])
    assert sparseness(masks)[0].isnan() and complexity(masks)[0].isnan()
    assert sparseness(masks)[1:].tolist() == approximately(0, 0)
    assert complexity(masks)[1:].tolist() == approximately(*[math.log(431 * 513)] * 2)
    assert kept_fraction(masks).tolist() == approximately(0, 1, 0.3)


def test_a_single_bin_is_the_sparsest_and_simplest_of_a_plane():
    mask = torch.zeros(1, 431, 513)
    mask[0, 7, 9] = 1
    assert sparseness(mask).item() == pytest.approx(1 - 1 / (431 * 513)) and complexity(mask).item() == 0


def test_kept_fraction_is_the_mean():
    assert kept_fraction(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.25, 0.25], [0.0, 0.5]]])).tolist() == [0.5, 0.25]
