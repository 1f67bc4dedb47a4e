"""What autograd keeps for the backward pass, counted by hand."""

import torch
from torch import nn

from tools.step_memory import kept_for_backward


def test_a_layer_keeps_its_input_and_a_relu_its_output():
    layer, clips = nn.Linear(3, 4), torch.ones(2, 3)
    assert kept_for_backward(lambda: layer(clips), [layer]) == 2 * 3 * 4
    assert kept_for_backward(lambda: layer(clips).relu(), [layer]) == 2 * 3 * 4 + 2 * 4 * 4


def test_one_storage_counts_once_and_weights_are_counted_elsewhere():
    weight = nn.Linear(5, 1, bias=False)
    clips = torch.ones(2, 5, requires_grad=True)
    assert kept_for_backward(lambda: clips * clips[:, :1], [weight]) == 2 * 5 * 4
    assert kept_for_backward(lambda: clips.detach() * weight.weight, [weight]) == 2 * 5 * 4
    assert kept_for_backward(lambda: weight.weight * weight.weight, [weight]) == 0


def test_nothing_is_kept_where_nothing_is_trained():
    layer = nn.Linear(3, 4).requires_grad_(False)
    assert kept_for_backward(lambda: layer(torch.ones(2, 3)).relu(), [layer]) == 0


def test_a_device_without_memory_keeps_as_much():
    with torch.device("meta"):
        layer, clips = nn.Linear(3, 4), torch.ones(2, 3)
    assert kept_for_backward(lambda: layer(clips).relu(), [layer]) == 2 * 3 * 4 + 2 * 4 * 4
