"""Gradient methods against captum's own; Grad-CAM and guided gradients on networks that captum can handle."""

from dataclasses import replace

import pytest
import torch
from captum.attr import (
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from torch import nn

from interpreters.gradients import ClassScore, Gradient, _Guide, seeded
from interpreters.interpolation import resize_map
from models.adapters import ImageAdapter
from models.classifier import AudioClassifier
from models.frontend import FrontEnd
from models.mobilenet import MobileNet


def captums(method: str, score: ClassScore, x: torch.Tensor, deviation: float) -> torch.Tensor:
    """Its attribution of 10 samples, noise drawn for 4 copies together in SmoothGrad and for all in gradient SHAP."""

    def heard(log_magnitude: torch.Tensor) -> torch.Tensor:
        return score(log_magnitude.clamp(min=0))

    match method:
        case "gradient":
            return Saliency(heard).attribute(x)
        case "input_x_gradient":
            return InputXGradient(heard).attribute(x)
        case "integrated_gradients":
            return IntegratedGradients(heard).attribute(x, n_steps=10, internal_batch_size=4)
        case "smoothgrad":
            noise = {"nt_samples": 10, "nt_samples_batch_size": 4, "stdevs": deviation}
            return NoiseTunnel(Saliency(heard)).attribute(x, abs=False, **noise).abs()
        case "gradient_shap":
            return GradientShap(heard).attribute(x, torch.zeros_like(x), n_samples=10, stdevs=deviation)
    raise ValueError(method)


@pytest.mark.parametrize(
    "method", ["gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "gradient_shap"]
)
def test_a_method_is_captums_with_the_same_draws(cnn14, method):
    cnn14.freeze()
    clip = cnn14.frontend.analyze(torch.randn(1, 8000))
    score = ClassScore(cnn14, clip, 0, "logit")
    x = clip.log_magnitude.clone().requires_grad_()
    deviation = 0.15 * (x.max() - x.min()).item()
    interpreter = Gradient(cnn14.describe(), method, samples=10)
    with seeded(7, x.device):
        expected = captums(method, score, x, deviation)
    with seeded(7, x.device):
        found = interpreter.attribute(score, clip.log_magnitude)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def cams(score: ClassScore, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """captum's map, after choosing the first class for which it is not empty."""
    for score.target in range(4):
        found = LayerGradCam(score, layer).attribute(x).relu()
        if found.std() > 0:
            return found
    raise AssertionError("no class has a map")


@pytest.mark.parametrize("map_index, block", [(-1, "conv_block6"), (-2, "conv_block5"), (0, "conv_block3")])
def test_grad_cam_is_captums_on_cnn14(cnn14, map_index, block):
    cnn14.freeze()
    clip = cnn14.frontend.analyze(torch.randn(1, 16000))
    x = clip.log_magnitude.clone().requires_grad_()
    score = ClassScore(cnn14, clip, 0, "logit")
    # captum's map is stretched evenly, not from mel to Hz
    interpreter = Gradient(replace(cnn14.describe(), mel_top=None), "grad_cam", map_index=map_index)
    expected = cams(score, getattr(cnn14.backbone.model, block), x)
    torch.testing.assert_close(interpreter.grad_cam(score, x), resize_map(expected, *x.shape[1:]))


class _OneChannel(ImageAdapter):
    def forward(self, spectrogram):
        return super().forward(spectrogram)[:, :1]


@pytest.mark.parametrize("map_index, layer", [(-1, 16), (1, 6)])
def test_grad_cam_is_captums_on_a_transposed_map(map_index, layer):
    classifier = AudioClassifier(FrontEnd(), _OneChannel(64), MobileNet(), lambda size: nn.Linear(size, 4)).freeze()
    clip = classifier.frontend.analyze(torch.randn(1, 16000))
    x = clip.log_magnitude.clone().requires_grad_()
    score = ClassScore(classifier, clip, 0, "logit")
    expected = cams(score, classifier.backbone.features[layer], x).transpose(2, 3)
    found = Gradient(classifier.describe(), "grad_cam", map_index=map_index).grad_cam(score, x)
    torch.testing.assert_close(found, resize_map(expected, *x.shape[1:]))


def test_a_guided_gradient_is_captums_where_relus_are_modules():
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    x = torch.randn(5, 6, requires_grad=True)
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = GuidedBackprop(network).attribute(x)
    with _Guide() as guide:
        found = Saliency(network).attribute(x, abs=False)
    assert guide.relus == 2
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, Saliency(network).attribute(x, abs=False))
