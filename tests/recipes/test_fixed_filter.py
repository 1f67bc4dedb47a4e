"""The share of a mask's variance that one filter for all clips explains."""

import pytest
import torch
from recipe_files import HPARAMS

from models.errors import UsageError
from tools.fixed_filter import FilterVariance, main


def explained(*masks: torch.Tensor) -> float:
    variance = FilterVariance()
    for mask in masks:
        variance.add(mask)
    return variance.explained


def test_a_mask_that_never_moves_is_explained_whole():
    equaliser = torch.tensor([0.1, 0.9, 0.5])[None, :, None]
    assert explained(equaliser.expand(2, 3, 4), equaliser.expand(1, 3, 7)) == pytest.approx(1.0)


def test_a_mask_whose_filters_have_one_mean_is_explained_by_none():
    assert explained(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])) == pytest.approx(0.0)


def test_the_share_by_hand_over_two_batches():
    # filters 0 and 1, frames of both clips: [0, 0.4] and [0.8, 1.0]; means 0.2 and 0.9; mean of all 0.55
    masks = torch.tensor([[[0.0], [0.8]]]), torch.tensor([[[0.4], [1.0]]])
    between = 0.35**2
    whole = (0.55**2 + 0.15**2 + 0.25**2 + 0.45**2) / 4
    assert explained(*masks) == pytest.approx(between / whole)


def test_other_methods_are_refused(arguments, bundle, tmp_path):
    options = arguments(HPARAMS / "grad_cam.yaml", tmp_path, f"--classifier={bundle('cnn14')}")
    with pytest.raises(UsageError, match=r"grad_cam.yaml is .*: only LMAC-TD masks the code of a filterbank"):
        main([*options, "--clips=2"])
