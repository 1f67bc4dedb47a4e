"""Gradient attributions: linear networks whose answer is known, completeness, and nothing left behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from interpreters.gradients import METHODS, ClassScore, Gradient
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

INFO = ClassifierInfo(2, 16000, 1024, (2,), frozenset({"gradient", "maps"}))
SHAPE = (6, 5)


def sound(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


class Linear(nn.Module):
    """Logits [B, 2] = <weight, x>; the only map is x and 2 x, as two channels."""

    def __init__(self, detached: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, *SHAPE), requires_grad=False)
        self.detached = detached

    def forward(self, spectrogram):
        x = spectrogram.log_magnitude
        maps = torch.stack([x, 2 * x], dim=1)
        logits = torch.einsum("btf,ktf->bk", maps[:, 0], self.weight)
        return Evidence(logits, Features(logits, (maps.detach() if self.detached else maps,)))


class Broken(Linear):
    """Fails when asked with a gradient."""

    def forward(self, spectrogram):
        if torch.is_grad_enabled():
            raise RuntimeError("broken")
        return super().forward(spectrogram)


def maps_of(method: str, network: nn.Module, log_magnitude: torch.Tensor, info=INFO, **options) -> torch.Tensor:
    spectrogram = sound(log_magnitude)
    with torch.no_grad():
        return Gradient(info, method, **options).importance(network, spectrogram, network(spectrogram))


def weights_of_prediction(network: Linear, log_magnitude: torch.Tensor) -> torch.Tensor:
    return network.weight[network(sound(log_magnitude)).prediction]


@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_the_gradient_of_a_linear_network_is_its_weight(method):
    network, x = Linear(), torch.rand(3, *SHAPE) + 5  # so loud that noise makes nothing negative
    expected = weights_of_prediction(network, x).abs()
    torch.testing.assert_close(maps_of(method, network, x), expected)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "gradient_shap"])
def test_products_with_the_input_of_a_linear_network(method):
    network, x = Linear(), torch.rand(3, *SHAPE)
    expected = weights_of_prediction(network, x) * x
    torch.testing.assert_close(maps_of(method, network, x, noise=0.0), expected)


def test_grad_cam_by_hand():
    network, x = Linear(), torch.rand(2, *SHAPE)
    # the gradient of channel 0 is the weight, that of channel 1 is 0
    expected = (weights_of_prediction(network, x).mean(dim=(1, 2), keepdim=True) * x).relu()
    torch.testing.assert_close(maps_of("grad_cam", network, x), expected)


@pytest.mark.parametrize("method", ["smoothgrad", "gradient_shap"])
def test_noise_below_silence_is_silence(method):
    """One bin is loud and the others silent, so of the noise in these half is below silence, where it has no slope."""
    network, x = Linear(), torch.zeros(1, *SHAPE)
    network.weight[:] = 1
    x[0, 0, 0] = 1.0
    heard = []
    network.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0].log_magnitude))
    found = maps_of(method, network, x, samples=200, noise=0.1)[0]
    assert min(plane.min() for plane in heard) == 0
    silent = found.flatten()[1:].mean().item()
    if method == "smoothgrad":
        assert silent == pytest.approx(0.5, abs=0.02)
        assert found[0, 0].item() == pytest.approx(1)
    else:
        # the mean of a normal number's positive part is 1 / sqrt(2 pi) of its deviation
        assert silent == pytest.approx(0.1 / np.sqrt(2 * np.pi), abs=0.004)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "gradient_shap"])
def test_a_map_does_not_depend_on_how_many_variants_pass_together(method):
    class Curved(Linear):
        def forward(self, spectrogram):
            return super().forward(replace(spectrogram, log_magnitude=spectrogram.log_magnitude.square()))

    network, x = Curved(), torch.rand(1, *SHAPE)
    alone, *others = [maps_of(method, network, x, samples=10, chunk=chunk) for chunk in (1, 3, 4, 50)]
    for other in others:
        torch.testing.assert_close(other, alone)


def test_the_score_is_a_logit_or_a_probability():
    network, clip = Linear(), sound(torch.rand(1, *SHAPE))
    evidence = network(clip)
    assert ClassScore(network, clip, 1, "logit")(clip.log_magnitude).item() == evidence.logits[0, 1].item()
    assert ClassScore(network, clip, 1, "probability")(clip.log_magnitude).item() == evidence.probabilities[0, 1].item()


def test_integrated_gradients_of_a_square_are_the_square():
    class Square(nn.Module):
        def forward(self, spectrogram):
            score = spectrogram.log_magnitude.square().sum(dim=(1, 2))
            logits = torch.stack([score, -score], dim=1)
            return Evidence(logits, Features(logits))

    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(maps_of("integrated_gradients", Square(), x, samples=3, chunk=2), x.square())


def test_integrated_gradients_sum_to_what_the_sound_adds_to_silence(cnn14):
    # a cosine jumps where an untrained network's embedding leaves 0
    cnn14.head = nn.Linear(cnn14.backbone.embedding_size, 5)
    nn.init.normal_(cnn14.head.weight, std=30.0)
    cnn14.freeze()
    spectrogram = cnn14.frontend.analyze(torch.randn(1, 4000))
    evidence = cnn14(spectrogram)
    silence = cnn14(spectrogram.masked(torch.zeros(1, 1, 1)))
    added = (evidence.logits - silence.logits)[0, evidence.prediction[0]].item()
    interpreter = Gradient(cnn14.describe(), "integrated_gradients", samples=50, chunk=25)
    assert abs(added) > 0.1
    assert interpreter.importance(cnn14, spectrogram, evidence).sum().item() == pytest.approx(added, rel=0.01)


@pytest.mark.parametrize(
    "method, name",
    # the others have no ReLU to guide
    [(one, name) for one in METHODS for name in ("cnn14", "focalnet", "vit") if one != METHODS[-1] or name == "cnn14"],
)
def test_a_clip_has_one_map_in_any_batch_at_any_length_and_leaves_no_trace(method, name, request):
    classifier = request.getfixturevalue(name).freeze()
    info = classifier.describe()
    interpreter = Gradient(info, method, samples=3, chunk=2)
    torch.manual_seed(1)
    waveform = torch.randn(2, 6000)
    waveform[1, :3000] = 0  # digital silence
    spectrogram = classifier.frontend.analyze(waveform)
    hooks = hooks_of(classifier)
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with torch.no_grad():
        evidence = classifier(spectrogram)
        answer = interpreter.interpret(classifier, spectrogram, evidence)
        together = interpreter.importance(classifier, spectrogram, evidence)
        alone = interpreter.importance(classifier, spectrogram[1:], classifier(spectrogram[1:]))
        assert not torch.is_grad_enabled()
    assert together.shape == spectrogram.log_magnitude.shape and together.dtype == torch.float32
    assert together.isfinite().all() and together.std() > 0
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-4 * together[1].abs().max().item())
    assert answer.mask.unique().tolist() == [0, 1]
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1] == drawn[1]).all()  # noqa: NPY002
    assert not together.requires_grad and not spectrogram.log_magnitude.requires_grad
    assert_untouched(classifier, hooks)


def hooks_of(network: nn.Module) -> list[int]:
    """How many hooks each module has; some of transformers' modules keep their own."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(module, kind)) for module in network.modules() for kind in kinds]


def assert_untouched(network: nn.Module, hooks: list[int]) -> None:
    assert hooks_of(network) == hooks
    for parameter in network.parameters():
        assert not parameter.requires_grad and parameter.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_fails_leaves_no_trace_either(method):
    network, x = Broken(), torch.rand(1, *SHAPE)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="broken"):
        maps_of(method, network, x)
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), before)
    # the guide of ReLUs is gone
    assert torch.relu(x.clone().requires_grad_()).grad_fn.name() == "ReluBackward0"
    assert_untouched(network, [0] * 4)


def test_the_seed_decides_what_is_drawn():
    network, x = Linear(), torch.rand(1, *SHAPE)
    same, again, other = (maps_of("gradient_shap", network, x, seed=seed, samples=2) for seed in (1, 1, 2))
    assert torch.equal(same, again) and not torch.equal(same, other)


def test_a_guided_gradient_passes_relus_only_where_it_is_positive():
    class Guided(nn.Module):
        """The last of two ReLUs is in place and a function; logit 1 is always 0."""

        def forward(self, spectrogram):
            x = spectrogram.log_magnitude
            hidden = nn.ReLU()(x - 0.5)  # passes 0.6 and 0.9
            maps = torch.stack([hidden * torch.tensor([1.0, 1.0, -1.0])], dim=1)
            score = torch.relu_(maps + 1.0).sum(dim=(1, 2, 3))
            logits = torch.stack([score, torch.zeros_like(score)], dim=1)
            return Evidence(logits, Features(logits, (maps,)))

    x = torch.tensor([[[0.4, 0.6, 0.9]]])
    # gradients behind the first ReLU are 1, 1, -1; the mean slope of the map is 1, and the map is 0, 0.1, -0.4
    torch.testing.assert_close(maps_of("guided_grad_cam", Guided(), x), torch.tensor([[[0.0, 0.1, 0.0]]]))
    torch.testing.assert_close(maps_of("gradient", Guided(), x), torch.tensor([[[0.0, 1.0, 1.0]]]))


def test_positions_on_the_mel_axis():
    position = Gradient(INFO).mel_position(9, 8000.0)  # bins of 1 kHz
    assert position[0] == 0 and position[-1].item() == pytest.approx(1)
    assert position[1].item() == pytest.approx(1000 / 2840, abs=1e-3)  # 1000 and 2840 mel
    assert Gradient(INFO).mel_position(9, 15000.0)[-1].item() == pytest.approx(2840 / 3505, abs=1e-3)


def test_grad_cam_puts_the_columns_of_a_mel_map_where_they_belong():
    class Mel(nn.Module):
        """A map of four mel columns of which the last but one is loud."""

        def forward(self, spectrogram):
            gain = spectrogram.log_magnitude.mean(dim=(1, 2))
            maps = torch.tensor([0.0, 0.0, 1.0, 0.0]).expand(len(gain), 1, 3, 4) * gain.view(-1, 1, 1, 1)
            logits = torch.stack([maps.sum(dim=(1, 2, 3)), -gain], dim=1)
            return Evidence(logits, Features(logits, (maps,)))

    found = maps_of("grad_cam", Mel(), torch.rand(1, 6, 513), info=replace(INFO, mel_top=8000.0))
    # its centre, 5/8 of 2840 mel, is 2683 Hz, bin 171.7 of 15.625 Hz
    assert (found.argmax(dim=2) == 172).all()
    linear = maps_of("grad_cam", Mel(), torch.rand(1, 6, 513))
    assert linear.argmax(dim=2)[0, 0].item() == pytest.approx(5 / 8 * 512, abs=1)


def test_what_a_method_cannot_do_is_told(vit):
    x = torch.rand(1, *SHAPE)
    with pytest.raises(UsageError, match="Grad-CAM needs a feature map that leads to the logits, and map -1"):
        maps_of("grad_cam", Linear(detached=True), x)
    vit.freeze()
    spectrogram = vit.frontend.analyze(torch.randn(1, 4000))
    with pytest.raises(UsageError, match="needs a classifier with ReLUs, and this one has none: use grad_cam"):
        Gradient(vit.describe(), "guided_grad_cam").importance(vit, spectrogram, vit(spectrogram))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"method": "magic"}, "method='magic' must be one of gradient, input_x_gradient"),
        ({"output": "loss"}, "output='loss' must be one of logit, probability"),
        ({"samples": 0}, "samples=0 and chunk=12 must be 1 or more"),
        ({"noise": -1.0}, "noise=-1.0 must be 0 or more"),
        ({"method": "grad_cam", "map_index": 1}, "map_index=1 does not exist: this classifier has 1 feature maps"),
    ],
)
def test_mistakes_are_told(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        Gradient(INFO, **options)
