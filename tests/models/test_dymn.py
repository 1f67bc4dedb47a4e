"""Dynamic MobileNets: values of the authors' network, published tensors in their places, and what each part does."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.classifier import AudioClassifier
from models.conformance import check_classifier
from models.dymn import DyMN, _Depthwise, _DynamicReLU, _Pointwise
from models.frontend import FrontEnd
from models.mobilenet import PreemphasisMelAdapter
from tests.helpers import refusal, scattered


def by_rule(network: nn.Module) -> nn.Module:
    """The network with tensors that a rule gives, so that another network can be given the same ones."""
    state = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    with torch.no_grad():
        for seed, (key, value) in enumerate(sorted(state.items())):
            if key.endswith(("lambdas", "init_v")):
                continue
            scale, middle = 0.2, 0.0
            if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
                middle = 1.0
            elif value.ndim > 1:
                scale = 3 / math.prod(value.shape[1:]) ** 0.5
            if value.shape[:2] == (1, 1):  # four kernels
                scale = 0.5
            value.copy_(middle + scale * scattered(value.shape, seed))
    return network.eval()


def published(network: DyMN) -> dict[str, torch.Tensor]:
    """Its tensors as the authors name them."""
    state = {}
    for key, value in network.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "features":
            number, _, rest = rest.partition(".")
            key = {"0": "in_c", "16": "out_c"}.get(number, f"layers.{int(number) - 1}") + f".{rest}"
        state[key] = value
    return state


def two_images() -> torch.Tensor:
    """[2, 1, 128, 70], the second one the louder the higher."""
    images = scattered(torch.Size([2, 1, 128, 70]), 0)
    images[1] += torch.linspace(-1, 1, 128)[:, None]
    return images


@pytest.fixture
def classifier() -> AudioClassifier:
    frontend = FrontEnd()
    head = functools.partial(nn.Linear, out_features=5)
    torch.manual_seed(0)
    return AudioClassifier(frontend, PreemphasisMelAdapter(frontend), by_rule(DyMN()), head)


# size: the first three tags of both images, and a number of each of the second one's maps
AUTHORS = {
    "dymn04": (
        [[-0.5128849, -0.5930055, 0.3738936], [-0.5129300, -0.5925790, 0.3742015]],
        (0.0929051, 0.2145626, 0.0649941, 0.4021664),
    ),
    "dymn10": (
        [[1.4362882, -1.0870103, -0.9430997], [1.4236706, -1.0690439, -0.9358523]],
        (0.2887883, 0.0187260, 0.0318234, 1.7545844),
    ),
}


@pytest.mark.parametrize("size", AUTHORS)
def test_the_answer_is_that_of_the_authors_network(size):
    """Computed by EfficientAT's `models.dymn` (commit a425fdc) from the same tensors and images."""
    with torch.no_grad():
        features = by_rule(DyMN(size=size))(two_images())
    tags, cells = AUTHORS[size]
    torch.testing.assert_close(features.embedding[:, -527:-524], torch.tensor(tags), rtol=1e-4, atol=1e-4)
    for feature_map, cell in zip(features.maps, cells, strict=True):
        torch.testing.assert_close(feature_map[1, 3, 1, 2], torch.tensor(cell), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "count", "millions", "channels"),
    [
        ("dymn04", 1_961_239, 1.97, (16, 16, 48, 384)),
        ("dymn10", 10_548_479, 10.57, (24, 40, 112, 960)),
        ("dymn20", 39_966_143, 40.02, (48, 80, 224, 1920)),
    ],
)
def test_the_sizes_have_the_parameters_of_the_authors_network(size, count, millions, channels):
    """The millions are those of EfficientAT's README, which counts what batch norms keep too."""
    network = DyMN(size=size).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert sum(value.numel() for value in network.state_dict().values()) / 1e6 == pytest.approx(millions, abs=0.006)
    with torch.no_grad():
        features = network(torch.zeros(1, 1, 128, 64))
    assert tuple(feature_map.shape[1] for feature_map in features.maps) == channels
    assert features.embedding.shape == (1, network.embedding_size)


def test_a_published_checkpoint_is_loaded_whole(tmp_path):
    network, path = by_rule(DyMN()), tmp_path / "dymn04_as.pt"
    state = published(network)
    for key in ("in_c.0.weight", "layers.0.depth_conv.weight", "layers.14.context_gen.conv_f.bias", "out_c.1.bias"):
        assert key in state
    assert "layers.1.exp_conv.residuals.0.weight" in state and "layers.2.depth_act.coef_net.0.bias" in state
    torch.save(state, path)
    loaded = DyMN(str(path))
    assert loaded.provenance == str(path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_other_checkpoints_are_refused(tmp_path):
    path = tmp_path / "dymn10_as.pt"
    torch.save(published(DyMN(size="dymn10")), path)
    sentence = refusal(DyMN, str(path))
    assert sentence.startswith(f"weights='{path}' are not those of the dynamic MobileNet dymn04 (pass --size=dymn10): ")
    state = published(DyMN())
    del state["layers.3.depth_act.lambdas"]
    torch.save(state, tmp_path / "other.pt")
    assert "are not those of the dynamic MobileNet dymn04: " in refusal(DyMN, str(tmp_path / "other.pt"))
    assert refusal(DyMN, str(tmp_path / "absent.pt")) == f"no checkpoint {tmp_path / 'absent.pt'}"
    assert refusal(DyMN, size="mn04") == "size='mn04' is not one of dymn04, dymn10, dymn20"


def test_a_dynamic_convolution_mixes_kernels_for_each_clip():
    """A context whose answers are log shares mixes the kernels in these shares: one convolution a clip."""
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    x = torch.randn(2, 6, 9, 7)
    for layer, kernel_of, options in (
        (_Pointwise(6, 8, 4), lambda mixed: mixed.reshape(8, 6, 1, 1), {}),
        (_Depthwise(6, 5, 2, 4), lambda mixed: mixed.reshape(6, 1, 5, 5), {"stride": 2, "padding": 2, "groups": 6}),
    ):
        with torch.no_grad():
            layer.residuals[0].weight.copy_(torch.eye(4))
            answer = layer(x, shares.log())
            for clip in range(2):
                mixed = sum(share * kernel for share, kernel in zip(shares[clip], layer.weight[0, 0], strict=True))
                expected = F.conv2d(x[clip : clip + 1], kernel_of(mixed), **options)
                torch.testing.assert_close(answer[clip : clip + 1], expected, atol=1e-5, rtol=1e-5)


def test_a_dynamic_relu_starts_as_a_relu_and_moves_its_lines():
    relu = _DynamicReLU(channels=2, context=1)
    x = torch.tensor([-2.0, -0.5, 0.0, 3.0]).expand(1, 2, 1, 4)
    with torch.no_grad():
        torch.testing.assert_close(relu(x, torch.zeros(1, 1)), x.relu())
        # channel 0 keeps its lines; of channel 1 the slopes become 1 + 0.5 and -0.5, the offsets 0.25 and -0.25
        relu.coef_net[0].bias[4:] = torch.tensor([3.0, 1 / 3, 3.0, 1 / 3]).log()
        moved = relu(x, torch.zeros(1, 1))[0, :, 0]
    torch.testing.assert_close(moved[0], torch.tensor([0.0, 0.0, 0.0, 3.0]))
    torch.testing.assert_close(moved[1], torch.tensor([0.75, 0.0, 0.25, 4.75]))


def test_it_conforms_and_gradients_reach_the_sound(classifier):
    assert check_classifier(classifier) == []
    info = classifier.describe()
    assert (info.map_channels, info.mel_top, info.provides) == ((16, 16, 48, 384), 15000.0, {"maps", "gradient"})
    waveform = (0.1 * torch.randn(1, 16000)).requires_grad_()
    evidence = classifier(classifier.frontend.analyze(waveform))
    assert [tuple(feature_map.shape[2:]) for feature_map in evidence.features.maps] == [
        (25, 32),
        (13, 16),
        (7, 8),
        (4, 4),
    ]
    evidence.logits[0, 0].backward()
    assert waveform.grad.isfinite().all() and waveform.grad.abs().max() > 0


def test_a_frozen_batch_norm_is_frozen_in_contexts_too_and_may_be_checked():
    frontend = FrontEnd()
    network = DyMN(freeze_norm=True).train()
    assert not any(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    head = functools.partial(nn.Linear, out_features=5)
    frozen = AudioClassifier(frontend, PreemphasisMelAdapter(frontend), by_rule(network), head)
    assert check_classifier(frozen) == []
