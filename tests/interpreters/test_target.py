"""The class that is asked about: every family answers for it or says that it cannot."""

from functools import partial

import pytest
import torch
from torch import nn

from interpreters.base import Interpreter, masked
from interpreters.controls import Constant, Ranked, Reordered
from interpreters.decoders import LightDecoder
from interpreters.extremal import Extremal, Search
from interpreters.freqrise import FreqRISE
from interpreters.gradients import METHODS, Gradient
from interpreters.l2i import L2I
from interpreters.lmac import LMAC
from interpreters.lmac_td import LMACTD
from interpreters.maps import QuantileMap
from interpreters.parts import SeparatedParts
from interpreters.perturbation import Perturbation
from interpreters.piq import PIQ
from interpreters.separator import MaskNetwork
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram

RATE = 16000
PATCHES = {"output": "logit", "segment_seconds": 1.0, "bands": 2, "samples": 60}
small_decoder = partial(LightDecoder, width=16)
small_network = partial(MaskNetwork, width=8, layers=1, chunk=20, intra_layers=1, inter_layers=1, heads=2)


class ThreeBands(nn.Module):
    """Logit k is the mean log1p magnitude of band k of three, whose own map is the spectrogram itself."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd()
        self.bands = torch.zeros(3, 513)
        for number, (low, high) in enumerate(((0, 100), (100, 300), (300, 513))):
            self.bands[number, low:high] = 1

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        energy = spectrogram.log_magnitude
        in_bands = energy.unsqueeze(1) * self.bands[:, None]  # [B, 3, T, F]
        logits = in_bands.mean(dim=2).sum(dim=2) / self.bands.sum(dim=1)
        native_map = energy.detach().unsqueeze(1)
        return Evidence(logits, Features(logits, (in_bands,), native_map))

    def describe(self) -> ClassifierInfo:
        return ClassifierInfo(3, RATE, 1024, (3,), frozenset({"maps", "gradient", "native_map"}))


@pytest.fixture
def network() -> ThreeBands:
    return ThreeBands()


@pytest.fixture
def heard(network) -> Spectrogram:
    """Noise, loudest in the lowest band of the first clip and in the highest one of the second."""
    spectrogram = network.frontend.analyze(torch.randn(2, RATE // 4))
    louder = torch.stack((1 + network.bands[0], 1 + network.bands[2]))
    return spectrogram.masked(louder[:, None, :])


def importance(interpreter: Interpreter, network: ThreeBands, heard: Spectrogram, target) -> torch.Tensor:
    with torch.no_grad():
        return interpreter.importance(network, heard, network(heard), target)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "guided_grad_cam"])
def test_a_gradient_method_points_at_the_band_of_the_asked_class(method, network, heard):
    interpreter = Gradient(network.describe(), method, samples=3, noise=0.01)
    found = importance(interpreter, network, heard, torch.tensor([1, 0]))
    for clip, asked in ((0, 1), (1, 0)):
        inside = network.bands[asked] > 0
        assert found[clip][:, inside].mean() > 0
        assert found[clip][:, ~inside].abs().max() < 1e-6


@pytest.mark.parametrize("method", Perturbation.methods)
def test_a_perturbation_method_points_at_the_patches_of_the_asked_class(method, network, heard):
    interpreter = Perturbation(network.describe(), method, **PATCHES)
    low, high = (importance(interpreter, network, heard, torch.tensor([asked, asked])) for asked in (0, 2))
    assert (low[:, :, 50] > low[:, :, 500]).all()
    assert (high[:, :, 500] > high[:, :, 50]).all()


def test_integrated_gradients_of_an_asked_class_are_complete(cnn14):
    cnn14.head = nn.Linear(cnn14.backbone.embedding_size, 5)
    nn.init.normal_(cnn14.head.weight, std=30.0)
    cnn14.freeze()
    spectrogram = cnn14.frontend.analyze(torch.randn(1, 4000))
    evidence = cnn14(spectrogram)
    silence = cnn14(spectrogram.masked(torch.zeros(1, 1, 1)))
    asked = evidence.logits.argsort(dim=1)[:, 1]  # not the predicted one
    added = (evidence.logits - silence.logits)[0, asked[0]].item()
    interpreter = Gradient(cnn14.describe(), "integrated_gradients", samples=50, chunk=25)
    assert abs(added) > 0.1
    assert interpreter.importance(cnn14, spectrogram, evidence, asked).sum().item() == pytest.approx(added, rel=0.01)


def test_piq_takes_the_codes_of_the_asked_class(network, heard):
    interpreter = PIQ(network.describe(), channels=4, num_codes=6, decoder="spectrogram").eval()
    nn.init.normal_(interpreter.codebook.embedding.weight)
    evidence = network(heard)
    asked = (evidence.prediction + 1) % 3
    as_predicted = Evidence(torch.eye(3)[asked], evidence.features)
    found = interpreter.interpret(network, heard, evidence, asked).mask
    assert torch.equal(found, interpreter.interpret(network, heard, as_predicted).mask)
    assert not torch.allclose(found, interpreter.interpret(network, heard, evidence).mask, atol=1e-3)


def test_l2i_keeps_the_components_of_the_asked_class(network, heard):
    interpreter = L2I(network.describe(), components=3, width=4)
    interpreter.dictionary.copy_(network.bands.T)
    with torch.no_grad():
        interpreter.theta.weight.copy_(torch.eye(3))
        answer = interpreter.interpret(network, heard, network(heard), torch.tensor([1, 0]))
    for clip, asked in ((0, 1), (1, 0)):
        assert torch.equal(answer.mask[clip], network.bands[asked].expand_as(answer.mask[clip]))


@pytest.mark.parametrize("order", ["loudest", "random"])
def test_a_control_knows_no_class_and_says_which_one_it_was_asked_about(order, network, heard):
    info, evidence, asked = network.describe(), network(heard), torch.tensor([1, 1])
    for control in (Ranked(info, order), Constant(info, 0.5)):
        answer, default = (
            control.interpret(network, heard, evidence, asked),
            control.interpret(network, heard, evidence),
        )
        assert torch.equal(answer.mask, default.mask)
        assert answer.target.tolist() == [1, 1]


def test_a_matched_control_has_the_values_that_the_reference_gives_the_asked_class(network, heard):
    info, evidence, asked = network.describe(), network(heard), torch.tensor([1, 1])
    reference = Gradient(info, "input_x_gradient", quantile=None)
    theirs = reference.interpret(network, heard, evidence, asked).mask
    ours = Reordered(info, reference).interpret(network, heard, evidence, asked).mask
    assert torch.equal(ours.flatten(1).sort().values, theirs.flatten(1).sort().values)
    control = Reordered(info, QuantileMap(info))
    assert not control.answers_any_class
    with pytest.raises(UsageError, match="Reordered explains the predicted class only: class 1 was asked for"):
        control.interpret(network, heard, evidence, asked)


def everything(info: ClassifierInfo) -> list[Interpreter]:
    """One of each family, ready to explain."""
    l2i = L2I(info, components=3, width=4)
    l2i.dictionary.uniform_()
    return [
        Gradient(info, "smoothgrad", samples=2),
        Gradient(info, "grad_cam"),
        Perturbation(info, "lime", **PATCHES),
        Extremal(info, Search(steps=2)),
        FreqRISE(info, samples=4),
        SeparatedParts(info, "hpss", samples=4),
        PIQ(info, channels=4, num_codes=6, decoder="spectrogram"),
        l2i,
        Ranked(info, "random"),
        Constant(info, 0.5),
        Reordered(info, Ranked(info)),
        QuantileMap(info, [0.5, 0.9]),
        LMAC(info, small_decoder),
        LMACTD(info, mask_network=small_network, width=4),
    ]


@torch.no_grad()
def test_the_predicted_class_as_a_target_is_no_target(network, heard):
    evidence = network(heard)
    for interpreter in everything(network.describe()):
        default = list(interpreter.eval().sweep(network, heard, evidence))
        asked = list(interpreter.sweep(network, heard, evidence, evidence.prediction.clone()))
        for first, second in zip(default, asked, strict=True):
            assert torch.equal(first.mask, second.mask)
            assert torch.equal(first.importance, second.importance)
            assert torch.equal(first.target, second.target)


@torch.no_grad()
def test_a_method_that_knows_the_predicted_class_only_refuses_another_one(network, heard):
    evidence = network(heard)
    assert evidence.prediction.tolist() == [0, 2]
    refusing = [one.eval() for one in everything(network.describe()) if not one.answers_any_class]
    assert [type(one) for one in refusing] == [QuantileMap, LMAC, LMACTD]
    for interpreter in refusing:
        sentence = (
            f"{type(interpreter).__name__} explains the predicted class only: class 1 was asked for where 2 is "
            r"predicted; the gradient and perturbation methods \(grad_cam, lime, ...\), PIQ, L2I and the controls "
            "answer for any class"
        )
        question = network, heard, evidence, torch.tensor([0, 1])
        with pytest.raises(UsageError, match=sentence):
            interpreter.interpret(*question)
        with pytest.raises(UsageError, match=sentence):
            interpreter.importance(*question)
        with pytest.raises(UsageError, match=sentence):
            next(interpreter.sweep(*question))


BAD_TARGETS = {
    "negative": (torch.tensor([0, -1]), "target=-1 is no class: the 3 classes are 0 to 2"),
    "too large": (torch.tensor([3, 0]), "target=3 is no class: the 3 classes are 0 to 2"),
    "for one clip": (
        torch.tensor([0]),
        r"target must be a LongTensor \[2\], a class index for each clip, not torch.int",
    ),
    "of floats": (torch.tensor([0.0, 1.0]), r"target must be a LongTensor \[2\], .* not torch.float32 \[2\]"),
    "a number": (1, r"target must be a LongTensor \[2\], a class index for each clip, not int"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_a_target_that_is_no_class_is_refused(case, network, heard):
    target, sentence = BAD_TARGETS[case]
    for interpreter in everything(network.describe()):
        with pytest.raises(UsageError, match=sentence):
            interpreter.eval().interpret(network, heard, network(heard), target)


def test_every_importance_is_a_tensor(network, heard):
    with torch.no_grad():
        for interpreter in everything(network.describe()):
            answer = interpreter.eval().interpret(network, heard, network(heard))
            assert answer.importance.shape == answer.mask.shape == heard.log_magnitude.shape


class _OldSignature(Interpreter):
    def interpret(self, classifier, spectrogram, evidence):
        return masked(spectrogram, torch.ones_like(spectrogram.log_magnitude), evidence.prediction)


class _OldAbility(Constant):
    requires = frozenset({"saliency"})


def test_a_method_of_the_old_contract_is_told_what_changed(network):
    with pytest.raises(UsageError, match=r"_OldSignature.interpret must take \(classifier, .*, target=None\)"):
        _OldSignature(network.describe())
    with pytest.raises(UsageError, match=r"_OldAbility requires saliency, .* \(native_map was called saliency\)"):
        _OldAbility(network.describe())


def test_the_gradients_old_name_is_told(network):
    with pytest.raises(UsageError, match="method='saliency' is called 'gradient' now"):
        Gradient(network.describe(), "saliency")
