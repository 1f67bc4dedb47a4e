"""The conformance check for interpreters: sound ones pass, and each thing that lacks is a sentence."""

import inspect
from dataclasses import fields, replace
from functools import partial

import pytest
import torch

from interpreters.amortized import AmortizedMask
from interpreters.base import Interpreter, masked
from interpreters.conformance import check_interpreter
from interpreters.decoders import LightDecoder
from interpreters.l2i import L2I
from interpreters.lmac import LMAC
from interpreters.lmac_td import LMACTD
from interpreters.lmac_zs import LMACZS
from interpreters.maps import QuantileMap
from interpreters.piq import PIQ
from models.settings import SettingsGroup


class Even(Interpreter):
    """Half of everything."""

    def interpret(self, classifier, spectrogram, evidence, target=None):
        return masked(spectrogram, torch.full_like(spectrogram.log_magnitude, 0.5), self.asked_class(evidence, target))


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

    def interpret(self, classifier, spectrogram, evidence, target=None):
        return change(Even.interpret(self, classifier, spectrogram, evidence, target))

    return changed(interpret=interpret)


def losing(terms):
    return changed(Learned, loss=lambda self, classifier, spectrogram, evidence, clean=None: terms(self, spectrogram))


def unfreeze(self, classifier, spectrogram, evidence, target=None):
    classifier.train()
    return Even.interpret(self, classifier, spectrogram, evidence, target)


def meddle(self, classifier, spectrogram, evidence, target=None):
    next(classifier.parameters()).add_(1)
    return Even.interpret(self, classifier, spectrogram, evidence, target)


def over_the_batch(self, classifier, spectrogram, evidence, target=None):
    level = spectrogram.log_magnitude.mean().clamp(max=1)
    return masked(spectrogram, torch.ones_like(spectrogram.log_magnitude) * level, self.asked_class(evidence, target))


def by_lot(self, classifier, spectrogram, evidence, target=None):
    return masked(spectrogram, torch.rand_like(spectrogram.log_magnitude), self.asked_class(evidence, target))


def sweep_beyond_one(self, classifier, spectrogram, evidence, target=None):
    setting = Even.interpret(self, classifier, spectrogram, evidence, target)
    yield replace(setting, mask=setting.mask + 1)


def predicted_only(self, classifier, spectrogram, evidence, target=None):
    return Even.interpret(self, classifier, spectrogram, evidence)


def unchecked(self, classifier, spectrogram, evidence, target=None):
    target = evidence.prediction if target is None else target
    return masked(spectrogram, torch.full_like(spectrogram.log_magnitude, 0.5), target)


def another_by_default(self, classifier, spectrogram, evidence, target=None):
    level = 0.5 if target is None else 0.6
    return masked(spectrogram, torch.full_like(spectrogram.log_magnitude, level), evidence.prediction)


@pytest.mark.parametrize(
    "make",
    [Even, Learned, partial(QuantileMap, quantile=[0.5, 0.9]), partial(LMAC, decoder=partial(LightDecoder, width=16))],
)
def test_sound_interpreters_conform(make, focalnet):
    assert check_interpreter(make, focalnet) == []


CASES = {
    "needs": (
        QuantileMap,
        "It cannot be made with `info`: QuantileMap needs native_map of a classifier, and this one has no",
    ),
    "no info": (changed(__init__=lambda self: None), "It cannot be made with `info`: "),
    "no interpreter": (
        lambda info: torch.nn.Identity(),
        "It is of type Identity, not an interpreters.base.Interpreter.",
    ),
    "raises": (explaining(lambda found: 1 / 0), "Its `interpret` raises ZeroDivisionError: division by zero"),
    "returns": (explaining(lambda found: found.mask), "It returns Tensor, not interpreters.base.Interpretation."),
    "shape": (
        explaining(lambda found: replace(found, mask=found.mask[:, ::2])),
        "Its mask is [3, 44, 513] on noise of 1.0 s, not [B, T, F] = [3, 87, 513].",
    ),
    "range": (
        explaining(lambda found: replace(found, mask=3 * found.mask)),
        "Its mask leaves [0, 1] on noise of 1.0 s.",
    ),
    "not a number": (
        explaining(lambda found: replace(found, mask=found.mask / 0 * 0)),
        "Its mask leaves [0, 1] on noise of 1.0 s.",
    ),
    "part": (
        explaining(lambda found: replace(found, relevant=found.mask)),
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
    "ignores the target": (
        changed(answers_any_class=True, interpret=predicted_only),
        "It says it answers for any class, and its target is not the class that it was asked about.",
    ),
    "explains what it cannot": (
        changed(interpret=unchecked),
        "It does not say that it answers for any class, and does not refuse one that is not predicted.",
    ),
    "no such class": (
        changed(interpret=unchecked),
        "It does not refuse target=5, which is no class, with a UsageError.",
    ),
    "old signature": (
        changed(interpret=lambda self, classifier, spectrogram, evidence: None),
        "It cannot be made with `info`: Changed.interpret must take (classifier, spectrogram, evidence, target=None)",
    ),
    "default": (
        changed(interpret=another_by_default),
        "Its mask for the predicted class differs from its mask without",
    ),
    "batch": (changed(interpret=over_the_batch), "Its mask of a clip of 1.0 s depends on the rest of the batch."),
    "lot": (changed(interpret=by_lot), "Its mask for the same clip differs from one call to the next."),
    "importance": (
        explaining(lambda found: replace(found, importance=found.importance[:, :, 0])),
        "Its importance is [3, 87] on noise of 1.0 s, not [B, T, F] = [3, 87, 513].",
    ),
    "infinite importance": (
        explaining(lambda found: replace(found, importance=found.importance / 0)),
        "Its importance is not finite on silence.",
    ),
    "a part that is not finite": (
        explaining(lambda found: replace(found, relevant=found.relevant.masked(found.mask / 0))),
        "Its relevant part is not finite on noise of 1.37 s.",
    ),
    "sweep's mask": (changed(sweep=sweep_beyond_one), "Its mask leaves [0, 1] on a sweep."),
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


@pytest.mark.parametrize("trained", [AmortizedMask, L2I, LMAC, LMACTD, LMACZS, PIQ])
def test_what_only_training_looks_at_is_among_the_settings(trained):
    settings = set()
    for name, parameter in inspect.signature(trained).parameters.items():
        if isinstance(parameter.default, SettingsGroup):
            settings |= {field.name for field in fields(parameter.default)}
        else:
            settings.add(name)
    assert trained.training_settings and trained.training_settings < settings
