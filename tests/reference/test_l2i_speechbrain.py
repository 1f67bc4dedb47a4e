"""L2I against SpeechBrain's: losses and masks on fixed tensors, sizes, and a dictionary learned with an encoder.

Published: `L2I.compute_objectives` and `L2I.interpret_computation_steps` of SpeechBrain 9c826ef39
(`recipes/ESC50/interpret/train_l2i.py`), called with these spectrograms, activations, weights and logits.
"""

import pytest
import speechbrain as sb
import torch
from speechbrain.lobes.models.L2I import NMFDecoderAudio, NMFEncoder, PsiOptimized
from torch import Tensor, nn

from interpreters.decoders import Conv2dActivationDecoder, PaperActivationDecoder
from interpreters.dictionary import EncoderDictionary
from interpreters.l2i import L2I
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

CLIPS, FRAMES, BINS, CLASSES, COMPONENTS = 4, 6, 5, 3, 4
CNN14_MAPS = {256: (53, 10), 512: (26, 5), 1024: (13, 2), 2048: (13, 2)}
"""Channels and size of each map of 5 s, fine to coarse."""
CNN14 = ClassifierInfo(50, 16000, 1024, tuple(CNN14_MAPS), frozenset({"maps"}))
INFO = ClassifierInfo(CLASSES, 16000, 2 * (BINS - 1), (4, 6), frozenset({"maps"}))


def steps(*shape: int) -> Tensor:
    """0, 1, 2, … in a shape, float64."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


ACTIVATIONS = torch.sin(1.3 * steps(CLIPS, COMPONENTS, FRAMES)).relu().float()
LOGITS = 2 * torch.sin(2.3 * steps(CLIPS, CLASSES)).float()
WEIGHTS = {
    "attention.weight": torch.sin(0.5 + steps(1, FRAMES)).float(),
    "theta.weight": torch.cos(1.1 * steps(CLASSES, COMPONENTS)).float(),
    "dictionary": torch.cos(0.7 * steps(BINS, COMPONENTS)).float(),  # 8 of its numbers are below 0
}


def sound(log_magnitude: Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


HEARD = sound(torch.log1p(1 + torch.sin(steps(CLIPS, FRAMES, BINS))).float())
EVIDENCE = Evidence(LOGITS, Features(torch.zeros(CLIPS, 1), (torch.zeros(CLIPS, 4, 2, 2), torch.zeros(CLIPS, 6, 1, 1))))


class Fixed(nn.Module):
    """A decoder whose activations are known."""

    def __init__(self, map_channels, out_channels: int):
        super().__init__()

    def forward(self, maps) -> Tensor:
        return ACTIVATIONS


def interpreter(**settings) -> L2I:
    made = L2I(
        INFO,
        components=COMPONENTS,
        decoder=Fixed,
        attention_frames=FRAMES,
        activation="relu",
        fidelity=1 / CLASSES,
        **settings,
    )
    made.load_state_dict(WEIGHTS)
    return made


def test_the_published_loss():
    terms = interpreter().loss(None, HEARD, EVIDENCE)
    assert terms["reconstruction"].mean().item() == pytest.approx(10 * 0.3961132, rel=1e-5)
    assert terms["sparsity"].mean().item() == pytest.approx(0.2556636, rel=1e-5)
    assert terms["fidelity"].mean().item() == pytest.approx(0.4298927, rel=1e-5)
    assert sum(terms.values()).mean().item() == pytest.approx(4.6466880, rel=1e-5)


def test_the_published_loss_of_a_clip_that_is_longer_than_what_is_decoded():
    """Eight frames are heard and six decoded; the classifier's answer has a temperature of 0.3."""
    heard = sound(torch.log1p(1 + torch.sin(steps(CLIPS, FRAMES + 2, BINS))).float())
    cropped = interpreter(fit="crop", temperature=0.3)
    terms = cropped.loss(None, heard, EVIDENCE)
    assert terms["reconstruction"].mean().item() == pytest.approx(10 * 0.4096156, rel=1e-5)
    assert terms["fidelity"].mean().item() == pytest.approx(0.3030329, rel=1e-5)
    assert sum(terms.values()).mean().item() == pytest.approx(4.6548519, rel=1e-5)
    mask, whole = cropped.interpret(None, heard, EVIDENCE).mask, interpreter().interpret(None, HEARD, EVIDENCE).mask
    torch.testing.assert_close(mask[:, :FRAMES], whole)
    assert (mask[:, FRAMES:] == 0).all()
    with pytest.raises(UsageError, match=r"fit='cut' must be one of stretch, crop, and temperature=0\.3 above 0"):
        interpreter(fit="cut", temperature=0.3)
    with pytest.raises(UsageError, match=r"temperature=0 above 0"):
        interpreter(temperature=0)


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [(0.2, [0, 0.2880730, 0.3194647, 0.7]), (0.4, [0, 0.2880730, 0.3194647, 0.4986154])],
)
def test_the_published_masks(threshold, kept):
    result = interpreter(threshold=threshold).interpret(None, HEARD, EVIDENCE)
    assert result.target.tolist() == [1, 0, 0, 0]
    assert result.mask.mean(dim=(1, 2)).tolist() == pytest.approx(kept, abs=1e-5)


def test_the_published_relevant_part():
    means = [
        interpreter(threshold=t).interpret(None, HEARD, EVIDENCE).relevant.log_magnitude.mean() for t in (0.2, 0.4)
    ]
    assert [mean.item() for mean in means] == pytest.approx([0.2052891, 0.1740450], rel=1e-5)


def test_the_published_sizes():
    with torch.device("meta"):  # shapes without memory
        decoder = PaperActivationDecoder(CNN14.map_channels, out_channels=100)
        ours = L2I(CNN14, decoder=PaperActivationDecoder, attention_frames=431, activation="relu")
        learner = EncoderDictionary(513, 100)
        maps = [torch.zeros(2, channels, *size) for channels, size in CNN14_MAPS.items()]
        assert decoder(maps).shape == (2, 100, 431)
    assert size_of(decoder) == 237_623_140
    assert {name: size_of(part) for name, part in ours.published_parts().items()} == {
        "psi_model.ckpt": 237_623_140,
        "theta.ckpt": 431 + 50 * 100,
        "nmf_decoder.ckpt": 513 * 100,
    }
    assert size_of(learner.encoder) == 1_415_652
    assert size_of(learner.decoder) == 51_300


@torch.no_grad()
def test_the_decoder_for_the_conv2d_is_the_published_one():
    torch.manual_seed(0)
    ours = Conv2dActivationDecoder((3, 8), out_channels=5).eval()
    stock = PsiOptimized(dim=8, K=5, use_adapter=False, adapter_reduce_dim=False).eval()
    stock.load_state_dict(ours.psi.state_dict())
    conv2d_map = torch.rand(2, 8, 26, 32)
    expected = stock(conv2d_map)[0].squeeze(1).permute(0, 2, 1)  # as `train_l2i.py` turns it
    assert expected.shape == (2, 5, 417)
    torch.testing.assert_close(ours((torch.rand(2, 3, 9, 9), conv2d_map)), expected, atol=1e-5, rtol=1e-5)
    assert ours((torch.rand(2, 3, 9, 9), torch.rand(2, 8, 7, 40))).shape == (2, 5, 417)
    with torch.device("meta"):
        assert size_of(Conv2dActivationDecoder((256,) * 4, out_channels=100)) == 3_826_889
    with pytest.raises(UsageError, match="needs a feature map"):
        Conv2dActivationDecoder((), out_channels=5)


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    "changes", [{"attention_frames": None}, {"activation": "softplus"}, {"decoder": None}, {"channels": (4, 8, 16, 33)}]
)
def test_other_networks_were_not_released(changes):
    settings = {"decoder": PaperActivationDecoder, "attention_frames": 431, "activation": "relu"} | changes
    info = ClassifierInfo(3, 16000, 1024, settings.pop("channels", (4, 8, 16, 32)), frozenset({"maps"}))
    assert L2I(info, components=5, **settings).published_parts() == {}


class OneStepAtATime(sb.Brain):
    """The published training, by SpeechBrain's Brain at its defaults, on equal modules."""

    def compute_forward(self, batch, stage):
        return self.modules.decoder(self.modules.encoder(batch))

    def compute_objectives(self, predictions, batch, stage):
        return (predictions - batch).square().mean()


def test_a_dictionary_is_learned_as_speechbrains_brain_learns_it(monkeypatch):
    torch.manual_seed(0)
    clips = 40 * torch.rand(3, 20, 7)  # so large that gradients are clipped
    ours = EncoderDictionary(7, 4, rounds=6, rate=1e-2, clips_at_once=3)
    encoder, decoder = NMFEncoder(7, 4), NMFDecoderAudio(4, 7)
    encoder.load_state_dict(ours.encoder.state_dict())
    decoder.load_state_dict(ours.decoder.state_dict())
    modules = {"encoder": encoder, "decoder": decoder}
    brain = OneStepAtATime(modules, lambda parameters: torch.optim.Adam(parameters, 1e-2, weight_decay=2e-6))
    brain.on_fit_start()
    for _ in range(6):
        brain.fit_batch(clips.transpose(1, 2))
    expected = decoder.return_W().detach()
    batches = [sound(clips[:2]), sound(clips[2:])]
    torch.testing.assert_close(ours.learn(batches), expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(EncoderDictionary, "MAX_GRAD_NORM", float("inf"))
    unclipped = EncoderDictionary(7, 4, rounds=6, rate=1e-2, clips_at_once=3).learn(batches)
    assert (unclipped - expected).abs().max() > 1e-3


def planted_clips() -> tuple[Tensor, Tensor]:
    """Clips [12, 30, 6] that are sums of two spectra, in halves of the bins, and these [6, 2]."""
    parts = torch.tensor([[1.0, 0], [2, 0], [1, 0], [0, 2], [0, 1], [0, 1]])
    return torch.rand(12, 30, 2) @ parts.T, parts


def test_a_dictionary_learned_with_an_encoder_rebuilds_the_clips():
    torch.manual_seed(0)
    clips, _ = planted_clips()
    learner = EncoderDictionary(6, 8, rounds=60, rate=3e-3)
    learner.learn([sound(clips)])
    with torch.no_grad():
        rebuilt = learner.decoder(learner.encoder(clips.transpose(1, 2))).transpose(1, 2)
    assert (rebuilt - clips).square().sum() < 0.05 * clips.square().sum()


def test_a_dictionary_is_the_same_from_the_same_clips_and_draws_nothing():
    clips, _ = planted_clips()
    before = torch.get_rng_state()
    first = EncoderDictionary(6, 3, rounds=2).learn([sound(clips)])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(EncoderDictionary(6, 3, rounds=2).learn([sound(clips)]), first)


def test_l2i_takes_a_released_dictionary_in_place_of_learning(tmp_path):
    stock = NMFDecoderAudio(COMPONENTS, BINS)
    with torch.no_grad():
        stock.W.sub_(0.05)
    assert 0 < (stock.W < 0).sum() < stock.W.numel()
    torch.save(stock.state_dict(), tmp_path / "nmf_decoder.ckpt")

    def released(bins: int, components: int) -> EncoderDictionary:
        return EncoderDictionary(bins, components, weights=str(tmp_path / "nmf_decoder.ckpt"))

    ours = L2I(INFO, components=COMPONENTS, width=4, dictionary=released)
    ours.fit(iter(()))
    assert torch.equal(ours.dictionary, stock.return_W())
    with pytest.raises(UsageError, match=r"nmf_decoder\.ckpt does not fit this interpreter"):
        L2I(INFO, components=3, width=4, dictionary=released).fit(iter(()))
    (tmp_path / "nmf_decoder.ckpt").unlink()
    with pytest.raises(UsageError, match=r"no checkpoint .*nmf_decoder\.ckpt"):
        ours.fit(iter(()))


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"clips_at_once": 0}, {"rate": 0.0}])
def test_a_training_of_the_dictionary_that_cannot_be_is_told(changes):
    with pytest.raises(UsageError, match=r"rounds=.* must be 1 or more, and rate=.* above 0"):
        EncoderDictionary(5, 2, **changes)
