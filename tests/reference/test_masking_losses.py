"""The losses of L-MAC, LMAC-TD and PIQ on fixed tensors against the values that the published code gives on them.

Published: `LMAC.compute_objectives` of SpeechBrain 9c826ef39 (`recipes/ESC50/interpret/train_lmac.py`) and of
fpaissan/lmac-td-code c431179 (`interpret/train_lmactd.py`), and `PIQ.compute_objectives` of SpeechBrain
(`train_piq.py`), called with these spectrograms, masks, codes, sounds and linear classifiers in place of its own, and
one weight after the other above 0.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from interpreters.lmac import LMAC
from interpreters.lmac_td import LMACTD, Separation
from interpreters.piq import PIQ
from interpreters.quantize import Quantized
from models.classifier import ClassifierInfo, Evidence, Features
from models.frontend import FrontEnd, Spectrogram

CLIPS, FRAMES, BINS, CLASSES = 4, 3, 5, 3
GRID = torch.arange(CLIPS * FRAMES * BINS, dtype=torch.float64).reshape(CLIPS, FRAMES, BINS)
LOGIT = (2 * torch.cos(1.7 * GRID)).float()


class Linear(nn.Module):
    """A classifier whose logits are W X, X the log1p magnitude as it is or its mean over frames."""

    def __init__(self, inputs: int, mean: bool):
        super().__init__()
        steps = torch.arange(CLASSES * inputs, dtype=torch.float64)
        self.weight = torch.sin(0.9 * steps).reshape(CLASSES, inputs).float()
        self.mean, self.frontend = mean, FrontEnd()

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        log_magnitude = spectrogram.log_magnitude
        seen = log_magnitude.mean(dim=1) if self.mean else log_magnitude.flatten(1)
        return Evidence(seen @ self.weight.T, Features(seen, maps=(seen[:, None, None],)))


def spectrogram(phase: float | Tensor = 0.0) -> Spectrogram:
    log_magnitude = torch.log1p(1 + torch.sin(GRID + phase)).float()
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


class Fixed(nn.Module):
    def forward(self, maps, log_magnitude: Tensor) -> Tensor:
        return LOGIT


def lmac_terms(**settings) -> dict[str, Tensor]:
    info = ClassifierInfo(CLASSES, 16000, 1024, (1,), frozenset({"maps", "gradient"}))
    classifier, noisy = Linear(FRAMES * BINS, mean=False), spectrogram()
    clean = spectrogram(0.4 * torch.arange(CLIPS)[:, None, None])
    interpreter = LMAC(info, decoder=lambda channels: Fixed(), **settings)
    return interpreter.loss(classifier, noisy, classifier(noisy), clean=clean)


def test_lmac_has_the_published_loss():
    # the published sparsity is summed over the clips of a batch: 0.4 there is 1.6 a clip in batches of four
    terms = lmac_terms(sparsity=0.4 * CLIPS)
    assert terms["inside"].mean().item() == pytest.approx(1.7291927, rel=1e-5)
    assert terms["outside"].mean().item() == pytest.approx(-0.0920614, rel=1e-5)
    assert terms["sparsity"].mean().item() == pytest.approx(0.8086254, rel=1e-5)
    assert sum(terms.values()).mean().item() == pytest.approx(2.4457567, rel=1e-5)


@pytest.mark.parametrize(
    ("min_correlation", "guidance", "guided"), [(0.6, 3.4670358, 4), (0.7, 3.4670358, 4), (0.85, 1.7386268, 2)]
)
def test_lmac_guides_the_published_clips_as_much(min_correlation, guidance, guided):
    terms = lmac_terms(guidance=4.0, min_correlation=min_correlation)
    assert terms["guidance"].mean().item() == pytest.approx(guidance, rel=1e-5)
    assert (terms["guidance"] > 0).sum() == guided
    assert (terms["sparsity"] == 0).sum() == guided


def test_lmac_td_has_the_published_loss():
    time = torch.arange(4000, dtype=torch.float64) / 16000
    tones = torch.sin(2 * math.pi * torch.tensor([[440.0], [1000.0]], dtype=torch.float64) * time)
    hum = 0.3 * torch.sin(2 * math.pi * 120 * time).expand(2, -1)
    parts = Separation((0.8 * tones + 0.1 * hum).float(), (0.3 * tones + 0.9 * hum).float())
    classifier = Linear(513, mean=True)
    heard = classifier.frontend.analyze((tones + hum).float())
    info = ClassifierInfo(CLASSES, 16000, 1024, (1,), frozenset({"maps", "gradient"}))
    interpreter = LMACTD(info, mask_network=lambda filters: nn.Identity(), alpha=0.0, max_seconds=1.0)
    interpreter.separate = lambda waveform, maps: parts
    terms = interpreter.loss(classifier, heard, classifier(heard))
    assert terms["inside"].mean().item() == pytest.approx(1.6114720, rel=1e-4)
    assert terms["outside"].mean().item() == pytest.approx(-0.1364696, rel=1e-4)
    assert terms["sparsity"].mean().item() == pytest.approx(0.0698590, rel=1e-4)


def test_piq_has_the_published_loss(monkeypatch):
    places = torch.arange(CLIPS * 2 * 2 * 3, dtype=torch.float64).reshape(CLIPS, 2, 2, 3)
    encoded, codes = torch.sin(0.7 * places).float(), torch.cos(1.3 * places).float()
    interpreter = PIQ(ClassifierInfo(CLASSES, 16000, 1024, (2,), frozenset({"maps"})), num_codes=CLASSES)
    monkeypatch.setattr(interpreter, "encode", lambda evidence: encoded)
    monkeypatch.setattr(interpreter.codebook, "forward", lambda *_: Quantized(codes, codes, torch.zeros(CLIPS, 2, 3)))
    monkeypatch.setattr(interpreter, "mask_logit", lambda codes, frames, bins: LOGIT)
    evidence = Evidence(torch.zeros(CLIPS, CLASSES), Features(encoded, (encoded,)))
    terms = interpreter.loss(None, spectrogram(), evidence)
    assert terms["mask"].mean().item() == pytest.approx(0.9691600, rel=1e-5)
    assert (terms["codebook"] + terms["commitment"]).mean().item() == pytest.approx(2.1399198, rel=1e-5)
    assert sum(terms.values()).mean().item() == pytest.approx(3.1090798, rel=1e-5)
