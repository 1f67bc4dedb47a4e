"""The conformance check for interpreters: sound ones pass, and each thing that lacks is a sentence."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from interpreters.base import Interpreter, masked
from interpreters.decoders import LightDecoder
from interpreters.lmac import LMAC
from interpreters.maps import QuantileMap
from tests.conformance import check_interpreter


class Even(Interpreter):
    """Half of everything."""

    def interpret(self, classifier, spectrogram, evidence):
        return masked(spectrogram, torch.full_like(spectrogram.log_magnitude, 0.5), evidence)


class Learned(Even):
    trainable = True

    def __init__(self, info):
        super().__init__(info)
        self.gain = torch.nn.Parameter(torch.zeros(()))

    def loss(self, classifier, spectrogram, evidence, clean=None):
        return {"inside": self.gain.sigmoid() * spectrogram.log_magnitude.mean(dim=(1, 2))}


def changed(base=Even, **methods):
    return type("Changed", (base,), methods)


def explaining(change):
    """An interpreter whose interpretation goes through `change`."""

    def interpret(self, classifier, spectrogram, evidence):
        return change(Even.interpret(self, classifier, spectrogram, evidence))

    return changed(interpret=interpret)


def losing(terms):
    return changed(Learned, loss=lambda self, classifier, spectrogram, evidence, clean=None: terms(self, spectrogram))


def unfreeze(self, classifier, spectrogram, evidence):
    classifier.train()
    return Even.interpret(self, classifier, spectrogram, evidence)


def meddle(self, classifier, spectrogram, evidence):
    next(classifier.parameters()).add_(1)
    return Even.interpret(self, classifier, spectrogram, evidence)


def over_the_batch(self, classifier, spectrogram, evidence):
    level = spectrogram.log_magnitude.mean().clamp(max=1)
    return masked(spectrogram, torch.ones_like(spectrogram.log_magnitude) * level, evidence)


@pytest.mark.parametrize(
    "make",
    [Even, Learned, partial(QuantileMap, quantile=[0.5, 0.9]), partial(LMAC, decoder=partial(LightDecoder, width=16))],
)
def test_sound_interpreters_conform(make, focalnet):
    assert check_interpreter(make, focalnet) == []


CASES = {
    "needs": (
        QuantileMap,
        "It cannot be made with `info`: QuantileMap needs saliency of a classifier, and this one has no",
    ),
    "no info": (changed(__init__=lambda self: None), "It cannot be made with `info`: "),
    "no interpreter": (
        lambda info: torch.nn.Identity(),
        "It is of type Identity, not an interpreters.base.Interpreter.",
    ),
    "raises": (explaining(lambda found: 1 / 0), "Its `interpret` raises ZeroDivisionError: division by zero"),
    "returns": (explaining(lambda found: found.saliency), "It returns Tensor, not interpreters.base.Interpretation."),
    "shape": (
        explaining(lambda found: replace(found, saliency=found.saliency[:, ::2])),
        "Its saliency is [3, 44, 513] on noise of 1.0 s, not [B, T, F] = [3, 87, 513].",
    ),
    "range": (
        explaining(lambda found: replace(found, saliency=3 * found.saliency)),
        "Its saliency leaves [0, 1] on noise of 1.0 s.",
    ),
    "not a number": (
        explaining(lambda found: replace(found, saliency=found.saliency / 0 * 0)),
        "Its saliency leaves [0, 1] on noise of 1.0 s.",
    ),
    "part": (
        explaining(lambda found: replace(found, relevant=found.saliency)),
        "Its relevant part is not a Spectrogram of the input's shape [3, 87, 513] on noise of 1.0 s.",
    ),
    "length": (
        explaining(lambda found: replace(found, residual=replace(found.residual, num_samples=7))),
        "Its residual part has 7 samples and the input 16000 on noise of 1.0 s.",
    ),
    "target": (
        explaining(lambda found: replace(found, target=found.target + 1)),
        "Its target is not the predicted class on noise of 1.0 s.",
    ),
    "batch": (changed(interpret=over_the_batch), "Its saliency of a clip of 1.0 s depends on the rest of the batch."),
    "sweep": (changed(quantiles=(0.5, 0.9)), "Its sweep yields 1 interpretations for 2 quantiles."),
    "headline": (changed(quantiles=(0.5,)), "It has quantiles and no `headline` among them."),
    "mode": (changed(interpret=unfreeze), "It does not leave the classifier frozen and in evaluation mode."),
    "weights": (changed(interpret=meddle), "It changes the classifier's parameters or buffers."),
    "loss raises": (losing(lambda self, x: 1 / 0), "Its `loss` raises ZeroDivisionError: division by zero"),
    "loss": (losing(lambda self, x: self.gain), "Its loss is not a dictionary of named terms."),
    "term": (losing(lambda self, x: {"a": self.gain}), "Its loss term 'a' is [] for 2 clips, not [B]."),
    "infinite": (losing(lambda self, x: {"a": self.gain.log().expand(2)}), "Its loss term 'a' is not finite."),
    "no gradient": (losing(lambda self, x: {"a": torch.ones(2)}), "Its loss has no gradient."),
    "reaches": (losing(lambda self, x: {"a": (0 * self.gain).expand(2)}), "Its loss reaches none of its parameters."),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lacks_is_said(case, cnn14):
    make, sentence = CASES[case]
    findings = check_interpreter(make, cnn14)
    assert any(finding.startswith(sentence) for finding in findings), findings
