"""The classifier contract: evidence, the cosine head, describe and freeze, and the check for classifiers of others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.classifier import AudioClassifier, ClassifierInfo, CosineHead, Evidence, Features


def test_probabilities_are_the_softmax_in_float32():
    logits = torch.tensor([[0.0, 0.0], [0.0, 3.0]]).log1p()  # odds 1 : 1 and 1 : 4
    evidence = Evidence(logits, Features(logits))
    torch.testing.assert_close(evidence.probabilities, torch.tensor([[0.5, 0.5], [0.2, 0.8]]))
    assert evidence.prediction.tolist() == [0, 1]
    rough = Evidence(logits.bfloat16(), Features(logits))
    assert rough.probabilities.dtype == torch.float32
    torch.testing.assert_close(rough.probabilities.sum(dim=1), torch.ones(2))


def test_the_head_answers_scaled_cosines():
    head = CosineHead(2, num_classes=3, scale=30.0)
    head.classifier.weight.data = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0]])
    logits = head(torch.tensor([[2.0, 0.0], [0.3, 0.4]]))
    torch.testing.assert_close(logits, 30 * torch.tensor([[1.0, 0.0, -1.0], [0.6, 0.8, -0.6]]))


def test_a_head_with_a_block_is_normalisation_a_layer_and_cosines():
    head = CosineHead(4, num_classes=3, num_blocks=1, scale=2.0).eval()
    embedding = torch.randn(5, 4)
    norm, linear = head.classifier.blocks
    hidden = F.linear(embedding / (1 + norm.norm.eps) ** 0.5, linear.w.weight, linear.w.bias)
    expected = 2 * F.cosine_similarity(hidden.unsqueeze(1), head.classifier.weight.unsqueeze(0), dim=2)
    assert hidden.shape == (5, 192)
    torch.testing.assert_close(head(embedding), expected)


def test_the_three_networks_describe_themselves(focalnet, vit, cnn14):
    common = {"num_classes": 5, "sample_rate": 16000, "n_fft": 1024, "logit_scale": 30.0, "provenance": "from scratch"}
    everything, maps = frozenset({"gradient", "maps", "native_map"}), frozenset({"gradient", "maps"})
    modulation, attention = common | {"map_name": "modulation"}, common | {"map_name": "attention"}
    assert focalnet.describe() == ClassifierInfo(
        map_channels=(48, 96, 192, 192), provides=everything, earlier_maps=4, **modulation
    )
    assert vit.describe() == ClassifierInfo(map_channels=(48,) * 4, provides=everything, **attention)
    assert cnn14.describe() == ClassifierInfo(map_channels=(16, 32, 64, 128), provides=maps, mel_top=8000.0, **common)


def test_an_ordinary_head_has_logit_scale_1(focalnet):
    plain = AudioClassifier(focalnet.frontend, focalnet.adapter, focalnet.backbone, lambda size: nn.Linear(size, 7))
    assert plain.describe().logit_scale == 1.0 and plain.describe().num_classes == 7


def test_describe_restores_every_module_s_own_mode(cnn14):
    cnn14.backbone.eval()
    modes = [module.training for module in cnn14.modules()]
    assert set(modes) == {True, False}
    cnn14.describe()
    assert [module.training for module in cnn14.modules()] == modes
    cnn14.frontend.analyze = lambda waveform: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cnn14.describe()
    assert [module.training for module in cnn14.modules()] == modes
