"""LMAC-ZS: its terms by hand, masks that follow the prompt, and a training that makes it so."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import refusal
from torch import nn

from interpreters.conformance import check_interpreter
from interpreters.decoders import LightDecoder
from interpreters.lmac_zs import LMACZS, PromptedMaps
from models.classifier import ClassifierInfo, Evidence, Features
from models.frontend import FrontEnd, Spectrogram

SCALE = 10.0
LIGHT = partial(LightDecoder, width=16, bands=8)
PROMPTS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.6, 0.8], [-1.0, 0.0, 0.0]])


class Thirds(nn.Module):
    """Four prompts whose directions are low, middle, mostly high, and the opposite of low; a sound's are its levels."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd(8000, 256, 32, 16)
        self.bands = torch.arange(129) // 43  # of each bin

    def forward(self, spectrogram):
        levels = [spectrogram.log_magnitude[:, :, self.bands == band].mean(dim=(1, 2)) for band in range(3)]
        embedding = torch.stack(levels, dim=1)
        direction = nn.functional.normalize(embedding + 1e-6, dim=1)
        planes = nn.functional.adaptive_avg_pool2d(spectrogram.log_magnitude.unsqueeze(1), (8, 6))
        return Evidence(SCALE * direction @ PROMPTS.T, Features(embedding, (planes,)), prompts=PROMPTS)

    def freeze(self):
        return self.eval()

    def describe(self):
        abilities = frozenset({"gradient", "maps", "prompts"})
        return ClassifierInfo(4, 8000, 256, (1,), abilities, SCALE, prompt_size=3)


@pytest.fixture
def network() -> Thirds:
    return Thirds()


@pytest.fixture
def heard(network) -> Spectrogram:
    """Two clips with the levels 3, 2 and 1 in the thirds of the bins, and 1, 2 and 4."""
    spectrogram = network.frontend.analyze(torch.randn(2, 4000))
    levels = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])[:, network.bands]
    return replace(spectrogram, log_magnitude=levels.unsqueeze(1).expand_as(spectrogram.log_magnitude).clone())


def interpreter_of(network: Thirds, **settings) -> LMACZS:
    return LMACZS(network.describe(), LIGHT, **settings)


def keep_bands(interpreter: LMACZS, network: Thirds, kept: dict[int, list[int]], asked: list[int]) -> None:
    """Make the interpreter keep whole thirds for each prompt, and ask about the same prompts for every clip."""

    def mask_logit(spectrogram, evidence, target):
        inside = torch.isin(network.bands, torch.tensor(kept[int(target[0])]))
        return torch.where(inside, 100.0, -100.0).expand_as(spectrogram.log_magnitude)

    interpreter.mask_logit = mask_logit
    interpreter.asked_prompts = lambda evidence: torch.tensor(asked).expand(len(evidence.logits), -1)


def test_the_terms_by_hand(network, heard):
    """Levels (3, 2, 1) and (1, 2, 4): keeping the low third turns a sound to (1, 0, 0)."""
    interpreter = interpreter_of(network, similarity=2.0, sparsity=3.0, diversity=5.0)
    keep_bands(interpreter, network, {0: [0], 2: [0, 1]}, [0, 2])
    terms = interpreter.loss(network, heard, network(heard))
    first, second = (14**0.5, 13**0.5), (21**0.5, 5**0.5)  # lengths of the whole and of what prompt 2 keeps
    of_low = torch.tensor([1 - 3 / first[0], 1 - 1 / second[0]])
    of_high = torch.tensor([
        abs((0.6 * 2 + 0.8 * 1) / first[0] - 0.6 * 2 / first[1]),
        abs((0.6 * 2 + 0.8 * 4) / second[0] - 0.6 * 2 / second[1]),
    ])  # fmt: skip
    torch.testing.assert_close(terms["similarity"], 2 * SCALE * (of_low + of_high) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(terms["sparsity"], torch.full((2,), 3 * (1 / 3 + 2 / 3) / 2), atol=1e-3, rtol=1e-3)
    alike = 43 / (43 * 86) ** 0.5  # of masks of one third and two, whose prompts are at right angles
    torch.testing.assert_close(terms["diversity"], torch.full((2,), 5 * alike), atol=1e-3, rtol=1e-3)


def test_masks_may_be_as_alike_as_their_prompts(network, heard):
    interpreter = interpreter_of(network, similarity=0.0, sparsity=0.0, diversity=1.0)
    evidence = network(heard)
    for kept, excess in (([0], 1 / 2**0.5 - 0.6), ([2], 0.0)):
        keep_bands(interpreter, network, {1: [0, 1], 2: kept}, [1, 2])
        terms = interpreter.loss(network, heard, evidence)
        assert set(terms) == {"diversity"}
        torch.testing.assert_close(terms["diversity"], torch.full((2,), max(excess, 0.0)), atol=1e-3, rtol=1e-3)


def test_a_mask_that_keeps_everything_changes_no_similarity(network, heard):
    interpreter = interpreter_of(network)
    keep_bands(interpreter, network, {0: [0, 1, 2], 1: [0, 1, 2]}, [0, 1])
    assert interpreter.loss(network, heard, network(heard))["similarity"].abs().max() < 1e-4


def test_the_predicted_prompt_comes_first_and_others_are_drawn_without_it(network, heard):
    evidence = network(heard)
    assert evidence.prediction.tolist() == [0, 2]
    interpreter = interpreter_of(network, others=2)
    draws = [interpreter.asked_prompts(evidence) for _ in range(40)]
    for asked in draws:
        assert asked.shape == (2, 3) and asked[:, 0].tolist() == [0, 2]
        assert all(len(set(row)) == 3 for row in asked.tolist())
    assert {tuple(sorted(asked[0, 1:].tolist())) for asked in draws} == {(1, 2), (1, 3), (2, 3)}
    interpreter.eval()
    before = torch.random.get_rng_state()
    assert torch.equal(interpreter.asked_prompts(evidence), interpreter.asked_prompts(evidence))
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_prompt_has_its_mask(network, heard):
    interpreter = interpreter_of(network).eval()
    evidence = network(heard)
    masks = [interpreter.interpret(network, heard, evidence, torch.tensor([k, k])).mask for k in range(4)]
    assert not torch.allclose(masks[0], masks[1], atol=1e-4)
    default = interpreter.interpret(network, heard, evidence)
    assert default.target.tolist() == [0, 2]
    assert torch.equal(default.mask[0], masks[0][0]) and torch.equal(default.mask[1], masks[2][1])


def test_maps_are_scaled_and_shifted_by_the_prompt():
    prompted = PromptedMaps((2,), 3)
    with torch.no_grad():
        prompted.layers[0].weight.zero_()
        prompted.layers[0].bias.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))  # scales of both channels, then shifts
    (found,) = prompted([torch.full((1, 2, 2, 2), 3.0)], torch.ones(1, 3))
    assert torch.equal(found[0, 0], torch.full((2, 2), 6.5)) and torch.equal(found[0, 1], torch.full((2, 2), 2.0))


def test_training_makes_masks_that_keep_what_the_prompt_hears(network, heard):
    """The low prompt must keep the low third of the first clip, whose others are a bother to it; the high one not."""
    torch.manual_seed(0)
    interpreter = interpreter_of(network, sparsity=2.0)
    optimizer = torch.optim.Adam(interpreter.parameters(), 3e-3)
    evidence = network(heard)
    losses = []
    for _ in range(150):
        loss = sum(interpreter.loss(network, heard, evidence).values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    interpreter.eval()
    with torch.no_grad():
        low, opposite = (interpreter.interpret(network, heard, evidence, torch.tensor([k, k])) for k in (0, 3))
    change = {
        "low": (network(low.relevant).logits[:, 0] - evidence.logits[:, 0]).abs(),
        "opposite": (network(opposite.relevant).logits[:, 3] - evidence.logits[:, 3]).abs(),
    }
    assert change["low"].max() < 2.0 and change["opposite"].max() < 2.0  # of at most 20
    assert low.mask.mean() < 0.5


def test_it_conforms_and_learns_on_clap(clap):
    interpreter = partial(LMACZS, decoder=LIGHT)
    assert check_interpreter(interpreter, clap) == []
    clap.freeze()
    method = interpreter(info=clap.describe())
    spectrogram = clap.frontend.analyze(0.1 * torch.randn(2, 16000))
    sum(method.loss(clap, spectrogram, clap(spectrogram)).values()).mean().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert method.prompted.layers[0].weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in clap.parameters())


def test_what_it_cannot_explain_or_be_is_told(network, cnn14):
    told = refusal(LMACZS, cnn14.describe(), LIGHT)
    assert told.startswith("LMACZS needs maps, prompts of a classifier, and this one has no prompts: CLAP has them")
    assert "others=4 must be from 1 to 3" in refusal(interpreter_of, network, others=4)
    assert "diversity=-1 must be 0" in refusal(interpreter_of, network, diversity=-1)
    nameless = replace(network.describe(), prompt_size=None)
    assert "says the `prompt_size`" in refusal(LMACZS, nameless, LIGHT)
