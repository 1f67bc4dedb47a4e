"""Against independent computations: equation (2) by hand, transformers, SpeechBrain, Quantus, torch.quantile."""

import numpy as np
import pytest
import quantus
import torch
import torch.nn.functional as F
from speechbrain.nnet.losses import AdditiveAngularMargin, AngularMargin, LogSoftmaxWrapper
from speechbrain.processing.features import STFT, Filterbank, spectral_magnitude
from torch import Tensor

from interpreters.maps import quantile_thresholds
from interpreters.metrics import complexity, sparseness
from models.adapters import MelAdapter
from models.frontend import FrontEnd
from recipes.training.losses import LOSSES


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """[B, C, H, W] with one odd square kernel [C, 1, k, k] a channel, zeros around, as sums over windows."""
    size = kernel.shape[-1]
    windows = F.pad(x, [size // 2] * 4).unfold(2, size, 1).unfold(3, size, 1)  # [B, C, H, W, k, k]
    return torch.einsum("bchwij,cij->bchw", windows, kernel[:, 0])


@pytest.mark.parametrize(
    ("stage", "layer", "place", "width", "size"),
    [(0, 0, 0, 24, 32), (2, 0, 2, 96, 8), (2, 1, 3, 96, 8), (3, 0, -1, 192, 4)],
)
@torch.no_grad()
def test_the_modulation_maps_are_the_norms_of_equation_2(focalnet, stage, layer, place, width, size):
    network = focalnet.eval().backbone
    block = network.model.focalnet.encoder.stages[stage].layers[layer].modulation
    block.projection_in.bias.normal_()  # gates and context of a fresh network are too small to tell levels apart
    seen = []
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layer_map = network(torch.randn(2, 3, 128, 128)).layer_maps[place]
    hook.remove()

    projected = torch.einsum("bhwc,dc->bdhw", seen[0], block.projection_in.weight)
    _, context, gates = (projected + block.projection_in.bias[:, None, None]).split([width, width, 3], dim=1)
    first = gelu(depthwise(context, block.focal_layers[0][0].weight))
    second = gelu(depthwise(first, block.focal_layers[1][0].weight))
    whole = gelu(second.mean(dim=(2, 3), keepdim=True))
    gathered = gates[:, 0:1] * first + gates[:, 1:2] * second + gates[:, 2:3] * whole
    mix = block.projection_context
    modulator = torch.einsum("bchw,dc->bdhw", gathered, mix.weight[:, :, 0, 0]) + mix.bias[:, None, None]

    assert block.focal_layers[0][0].weight.shape[-1] == 3 and block.focal_layers[1][0].weight.shape[-1] == 5
    assert layer_map.shape == (2, 1, size, size) and layer_map.std() > 0.01 * layer_map.mean()
    torch.testing.assert_close(layer_map[:, 0], modulator.square().sum(dim=1).sqrt())


@torch.no_grad()
def test_the_attention_map_is_transformers_own(vit):
    network = vit.eval().backbone
    for layer in network.model.layers:
        layer.attention.q_proj.weight.mul_(20)  # attention of a fresh network is uniform
    image = torch.randn(2, 3, 224, 224)
    native_map = network(image).native_map
    network.model.set_attn_implementation("eager")
    attention = network.model(image, output_attentions=True).attentions[-1]
    expected = attention.mean(dim=1)[:, 0, 1:].view(2, 1, 14, 14)
    assert attention.shape == (2, 3, 197, 197) and expected.std() > 0.1 * expected.mean()
    torch.testing.assert_close(native_map, expected)


def test_mel_bands_are_speechbrains():
    frontend, waveform = FrontEnd(), 0.3 * torch.randn(2, 21920)
    stft = STFT(sample_rate=16000, n_fft=1024, win_length=23.2199, hop_length=11.6099)(waveform)
    filters = Filterbank(n_mels=80, n_fft=1024, sample_rate=16000, log_mel=False, f_min=0, f_max=8000)
    expected = torch.log1p(filters(spectral_magnitude(stft, power=0.5)))
    torch.testing.assert_close(MelAdapter(frontend)(frontend.analyze(waveform)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("margin, scale", [(0.2, 30.0), (0.0, 1.0), (0.5, 10.0), (1.6, 3.0)])
@pytest.mark.parametrize(
    "name, theirs", [("additive_margin", AngularMargin), ("additive_angular_margin", AdditiveAngularMargin)]
)
def test_the_margin_losses_are_speechbrains(name, theirs, margin, scale):
    cosines, target = torch.rand(64, 5) * 2 - 1, torch.randint(5, (64,))
    ours, reference = (cosines.clone().requires_grad_() for _ in range(2))
    expected = LogSoftmaxWrapper(theirs(margin, scale))(reference.unsqueeze(1), target.unsqueeze(1))
    loss = LOSSES[name](margin, scale)(scale * ours, F.one_hot(target, 5).float())
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*torch.autograd.grad(loss, ours), *torch.autograd.grad(expected, reference))


@pytest.mark.parametrize(
    "shape",
    [lambda noise: noise, lambda noise: (noise > 0.9) + 1e-3, lambda noise: noise - 0.5, lambda noise: noise**8],
)
def test_sparseness_and_complexity_are_quantus(shape):
    mask = shape(torch.rand(3, 9, 7))
    values = mask.abs().double().numpy()
    for ours, theirs in ((sparseness, quantus.Sparseness), (complexity, quantus.Complexity)):
        expected = theirs(disable_warnings=True).evaluate_batch(x_batch=values, a_batch=values.copy())
        np.testing.assert_allclose(ours(mask).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_thresholds_are_torch_quantile(dtype, tolerance):
    """torch.quantile counts ranks in the map's own precision, which costs it a few digits in float32."""
    maps = torch.randn(3, 87, 129, dtype=dtype)
    quantiles = [0.0, 0.123, 0.5, 0.9, 0.999, 1.0]
    expected = torch.quantile(maps.flatten(1), torch.tensor(quantiles, dtype=dtype), dim=1)
    torch.testing.assert_close(quantile_thresholds(maps, quantiles), expected, atol=tolerance, rtol=tolerance)
