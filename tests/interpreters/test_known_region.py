"""Where the deciding region is known: four noise bands and a classifier that names the loudest of them.

The masking losses find that region, and every score ranks explainers by it.
"""

from functools import partial

import pytest
import torch
from torch import nn

from interpreters.decoders import LightDecoder
from interpreters.lmac import LMAC
from interpreters.lmac_td import LMACTD
from interpreters.maps import MapInterpreter
from interpreters.separator import Codec, MaskNetwork
from models.classifier import ClassifierInfo, Evidence, Features
from models.frontend import FrontEnd
from recipes.data.clips import ClipBatch
from recipes.data.contamination import Mixture
from recipes.scoring.batch import LabelledClips, score_batch

EDGES = ((500, 1300), (1800, 2800), (3300, 4600), (5200, 6800))  # Hz
SAMPLES = 8000
SMALL = {
    "lmac": partial(LMAC, decoder=partial(LightDecoder, width=16)),
    "lmac_td": partial(
        LMACTD,
        codec=partial(Codec, 128, 64),
        mask_network=partial(
            MaskNetwork, width=32, layers=1, chunk=50, intra_layers=1, inter_layers=1, heads=4, feed_forward=64
        ),
        width=16,
    ),
}


def in_band(frequency: torch.Tensor) -> torch.Tensor:
    """[4, n] of 0 and 1."""
    return torch.stack([((frequency >= low) & (frequency < high)).float() for low, high in EDGES])


class Bands(nn.Module):
    """Logits proportional to the mean log1p magnitude of each band; nothing is trained."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd()
        inside = in_band(torch.linspace(0, 8000, self.frontend.n_fft // 2 + 1))
        self.register_buffer("bands", inside / inside.sum(dim=1, keepdim=True))

    def forward(self, spectrogram):
        level = spectrogram.log_magnitude @ self.bands.T  # [B, T, 4]
        maps = (level.unsqueeze(1), level[:, ::4].unsqueeze(1))
        return Evidence(12 * level.mean(dim=1), Features(level.mean(dim=1), maps))

    def describe(self):
        return ClassifierInfo(4, 16000, self.frontend.n_fft, (1, 1), frozenset({"maps", "gradient"}))


def sources(clips: int) -> torch.Tensor:
    """[clips, 4, samples]: noise of each band; that of band k mod 4 is the loudest of clip k."""
    spectrum = torch.fft.rfft(torch.randn(clips, 4, SAMPLES))
    noise = torch.fft.irfft(spectrum * in_band(torch.fft.rfftfreq(SAMPLES, 1 / 16000)), SAMPLES)
    level = 0.03 + 0.05 * torch.rand(clips, 4, 1)
    level[torch.arange(clips), torch.arange(clips) % 4] = 0.15
    return level * noise / noise.square().mean(dim=2, keepdim=True).sqrt()


def si_sdr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[B] dB."""
    share = (estimate * target).sum(1, keepdim=True) / target.square().sum(1, keepdim=True)
    return 10 * ((share * target).square().sum(1) / (estimate - share * target).square().sum(1)).log10()


@torch.no_grad()
def measure(interpreter, classifier) -> tuple[float, float]:
    """What the prediction loses without the relevant part, and dB that the relevant part is nearer the true source."""
    torch.manual_seed(9)
    parts = sources(16)
    sound, true = parts.sum(dim=1), parts[torch.arange(16), torch.arange(16) % 4]
    spectrogram = classifier.frontend.analyze(sound)
    evidence = classifier(spectrogram)
    assert evidence.prediction.tolist() == [k % 4 for k in range(16)]
    found = interpreter.eval().interpret(classifier, spectrogram, evidence)
    column = evidence.prediction.unsqueeze(1)
    lost = evidence.probabilities.gather(1, column) - classifier(found.residual).probabilities.gather(1, column)
    relevant = classifier.frontend.synthesize(found.relevant)
    return lost.mean().item(), (si_sdr(relevant, true) - si_sdr(sound, true)).mean().item()


@pytest.mark.parametrize("name", SMALL)
def test_training_finds_the_band_that_decides(name):
    torch.manual_seed(0)
    classifier = Bands()
    interpreter = SMALL[name](classifier.describe())
    optimizer = torch.optim.Adam([one for one in interpreter.parameters() if one.requires_grad], lr=2e-3)
    assert measure(interpreter, classifier)[0] < 0.3
    torch.manual_seed(1)
    interpreter.train()
    for _ in range(75):
        spectrogram = classifier.frontend.analyze(sources(8).sum(dim=1))
        with torch.no_grad():
            evidence = classifier(spectrogram)
        loss = sum(term.mean() for term in interpreter.loss(classifier, spectrogram, evidence).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(interpreter.parameters(), 5.0)
        optimizer.step()
    lost, nearer = measure(interpreter, classifier)
    assert lost > 0.7
    assert nearer > 2.0


class Known(MapInterpreter):
    """perfect: the predicted band; inverted: the other bands; random: a draw for every bin."""

    def __init__(self, info, kind: str):
        super().__init__(info, quantile=None)
        self.kind = kind

    def importance(self, classifier, spectrogram, evidence, target=None):
        bands = (classifier.bands > 0).float()
        right = bands[evidence.prediction][:, None, :].expand_as(spectrogram.log_magnitude)
        others = bands.sum(dim=0) - right
        drawn = torch.rand(right.shape, generator=torch.Generator().manual_seed(0))
        return {"perfect": right, "inverted": others, "random": drawn}[self.kind]


def test_every_score_ranks_a_perfect_a_random_and_an_inverted_explainer():
    torch.manual_seed(3)
    classifier, number = Bands(), torch.arange(16)
    parts = sources(16)
    clip, added = parts[number, number % 4], parts[number, (number + 1) % 4]
    batch = ClipBatch(clip + added, number % 4, number)
    mixture = Mixture(batch, clip, added, (number + 1) % 4)
    spectrogram = classifier.frontend.analyze(batch.waveform)
    clips = LabelledClips(spectrogram, torch.nn.functional.one_hot(batch.label, 4).bool(), mixture.sources)
    means = {}
    for kind in ("perfect", "random", "inverted"):
        (columns,) = score_batch(classifier, Known(classifier.describe(), kind), clips)
        means[kind] = {name: column.float().mean().item() for name, column in columns.items()}
    perfect, random, inverted = means.values()
    assert perfect["acc"] == 1
    for score in ("fa", "iou", "ap", "inside", "pointing", "si_sdri"):
        assert perfect[score] > random[score] > inverted[score], score
    assert perfect["ad"] < random["ad"] < inverted["ad"]
    # a random mask takes as much of every band: the loudest stays so
    assert perfect["fid_i"] == random["fid_i"] == 1 and inverted["fid_i"] == 0
    for score in ("ai", "ag"):
        assert perfect[score] > 50 and random[score] == inverted[score] == 0, score
