"""L-MAC's loss against hand-computed values, its decoders at odd lengths, and a toy whose answer is known."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.Cnn14 import CNN14PSI_stft
from torch import nn

from interpreters.decoders import LightDecoder, PaperDecoder
from interpreters.lmac import LMAC
from models.bundle import build_trusted
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from recipes.config.recipe import load_recipe

HPARAMS = Path(__file__).parents[2] / "hparams"
CLASSIFIERS = {
    "cnn14": {"width": 0.125},
    "focalnet": {"size": "nano"},
    "vit": {"size": "nano"},
    "mobilenet": {},
}


def info(*channels: int) -> ClassifierInfo:
    return ClassifierInfo(2, 16000, 1024, channels or (1,), frozenset({"maps", "gradient"}))


def spectrogram(rows: list[list[float]]) -> Spectrogram:
    """B clips of T = 1 frame and F bins of these log1p magnitudes."""
    values = torch.tensor(rows).unsqueeze(1)
    return Spectrogram(values, torch.ones_like(values, dtype=torch.complex64), 100)


class Total(nn.Module):
    """A classifier of two classes: logits (sum of X, 0). Counts the clips that it hears."""

    def __init__(self):
        super().__init__()
        self.clips = 0

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        self.clips += len(spectrogram)
        total = spectrogram.log_magnitude.sum(dim=(1, 2))
        return Evidence(torch.stack((total, torch.zeros_like(total)), dim=1), Features(total[:, None]))


class Fixed(nn.Module):
    """A decoder that answers the same logits for every clip, or these for each."""

    def __init__(self, logits: list[list[float]]):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits).unsqueeze(1))

    def forward(self, maps, log_magnitude):
        return self.logits.expand_as(log_magnitude)


def lmac(logits: list[list[float]], **settings) -> LMAC:
    return LMAC(info(), decoder=lambda channels: Fixed(logits), **settings)


def losses(interpreter: LMAC, sound: Spectrogram, classifier: nn.Module, **extra) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        evidence = classifier(sound)
    return interpreter.loss(classifier, sound, evidence, **extra)


def real(name: str):
    torch.manual_seed(0)
    with (HPARAMS / "classifiers" / f"{name}_network.yaml").open() as stream:
        return load_hyperpyyaml(stream, CLASSIFIERS[name])["classifier"].freeze()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_terms_by_hand():
    # M = sigmoid(log 3) = 3/4, X = (1, 3): sum of M X = 3, sum of (1 - M) X = 1, predicted class 0.
    interpreter = lmac([[math.log(3.0), math.log(3.0)]], smoothness=2.0)
    terms = losses(interpreter, spectrogram([[1.0, 3.0]]), Total())
    assert {name: pytest.approx(value.item(), rel=1e-5) for name, value in terms.items() if value.shape == (1,)} == {
        "inside": 4 * softplus(-3.0),
        "outside": -0.2 * softplus(-1.0),
        "sparsity": 0.4 * 0.75,
        "smoothness": 0.0,
    }


def test_the_residual_part_pays_up_to_its_limit_and_has_no_gradient_beyond():
    # of the hand-made case above, CE(f((1 - M) X), 0) = softplus(-1) = 0.313
    logits = [[math.log(3.0), math.log(3.0)]]
    for limit, expected in ((0.2, 0.2), (0.5, softplus(-1.0))):
        interpreter = lmac(logits, outside_limit=limit, inside=0.0, sparsity=0.0)
        terms = losses(interpreter, spectrogram([[1.0, 3.0]]), Total())
        assert terms["outside"].item() == pytest.approx(-0.2 * expected, rel=1e-5)
        terms["outside"].sum().backward()
        assert (interpreter.decoder.logits.grad.abs().sum() == 0) == (limit == 0.2)


def test_smoothness_is_the_steps_along_both_axes_over_the_plane():
    interpreter = LMAC(
        info(),
        decoder=lambda channels: Fixed([[0.0]]),
        inside=0,
        outside=0,
        sparsity=0,
        smoothness=1.0,
    )
    half, high = 0.5, 0.75
    interpreter.decoder.logits = nn.Parameter(torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]]))
    sound = Spectrogram(torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.complex64), 100)
    terms = losses(interpreter, sound, Total())
    assert terms.keys() == {"smoothness"}
    assert terms["smoothness"].item() == pytest.approx(2 * (high - half) / 4, rel=1e-5)


@pytest.mark.parametrize(
    "off, clips",
    [((), 2), (("inside",), 1), (("outside",), 1), (("inside", "outside"), 0), (("sparsity",), 2)],
)
def test_a_term_of_weight_0_is_absent_and_is_not_heard(off, clips):
    classifier, sound = Total(), spectrogram([[1.0, 3.0]])
    evidence = classifier(sound)
    classifier.clips = 0
    terms = lmac([[0.0, 0.0]], **dict.fromkeys(off, 0.0)).loss(classifier, sound, evidence)
    assert terms.keys() == {"inside", "outside", "sparsity"} - set(off)
    assert classifier.clips == clips


def test_the_gate_opens_clip_by_clip():
    # All of X is 1; keeping one bin of four correlates by 1/2, keeping two by 1/sqrt 2 = 0.71.
    interpreter = lmac([[12.0, -12.0, -12.0, -12.0], [12.0, 12.0, -12.0, -12.0]], guidance=4.0)
    terms = losses(interpreter, spectrogram([[1.0] * 4] * 2), Total())
    assert terms["guidance"].tolist() == pytest.approx([0.0, 4 * 12 / 2], abs=1e-3)
    assert terms["sparsity"].tolist() == pytest.approx([0.4 / 4, 0.0], abs=1e-3)
    assert terms["inside"].shape == terms["outside"].shape == (2,)


def test_the_gate_threshold_is_a_setting():
    rows = [[12.0, 12.0, -12.0, -12.0]]
    closed = losses(lmac(rows, guidance=4.0, min_correlation=0.75), spectrogram([[1.0] * 4]), Total())
    assert closed["guidance"].item() == 0 and closed["sparsity"].item() == pytest.approx(0.2, abs=1e-3)


def test_guidance_compares_with_the_loud_bins_of_each_clip():
    # The target is (1, 1, 0, 0) in both clips although the second is ten times louder.
    row = [1.0, 0.35, 0.34, 0.0]
    interpreter = lmac([[1.0] * 4], guidance=4.0)
    terms = losses(interpreter, spectrogram([row, [10 * value for value in row]]), Total())
    expected = 4 * (softplus(-1.0) + softplus(1.0)) / 2
    assert terms["guidance"].tolist() == pytest.approx([expected] * 2, rel=1e-5)


def test_the_clean_sound_decides_gate_and_target():
    # The mask keeps bins 0 and 1 of a flat mixture; the clean sound lives in bin 0, or in bin 3 alone.
    interpreter = lmac([[12.0, 12.0, -12.0, -12.0]], guidance=4.0)
    clean = spectrogram([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    terms = losses(interpreter, spectrogram([[1.0] * 4] * 2), Total(), clean=clean)
    assert terms["guidance"].tolist() == pytest.approx([4 * 12 / 4, 0.0], abs=1e-3)
    assert terms["sparsity"].tolist() == pytest.approx([0.0, 0.2], abs=1e-3)


def test_silence_has_a_finite_loss():
    terms = losses(lmac([[0.0] * 4], guidance=4.0), spectrogram([[0.0] * 4]), Total())
    assert all(value.isfinite().all() for value in terms.values())
    assert terms["guidance"].item() == 0


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("seconds", [1.0, 1.37, 5.0])
def test_any_clip_length_with_any_classifier(name, seconds):
    classifier = real(name)
    sound = classifier.frontend.analyze(torch.randn(1, round(seconds * 16000)) * 0.1)
    for decoder in (
        lambda channels: LightDecoder(channels, width=16),
        lambda channels: LightDecoder(channels, width=16, use_input=True),
        PaperDecoder,
    ):
        interpreter = LMAC(classifier.describe(), decoder=decoder)
        with torch.no_grad():
            evidence = classifier(sound)
            answer = interpreter.interpret(classifier, sound, evidence)
        assert answer.mask.shape == sound.log_magnitude.shape
        assert answer.mask.dtype == torch.float32
        assert answer.mask.min() >= 0 and answer.mask.max() <= 1
        whole = answer.relevant.log_magnitude + answer.residual.log_magnitude
        torch.testing.assert_close(whole, sound.log_magnitude)
        assert torch.equal(answer.target, evidence.prediction)


def test_a_clip_has_the_same_loss_alone_and_in_a_batch():
    classifier = real("cnn14")
    torch.manual_seed(1)
    interpreter = LMAC(classifier.describe(), lambda channels: LightDecoder(channels, width=16), guidance=4.0)
    sound = classifier.frontend.analyze(torch.randn(4, 16000) * torch.tensor([[0.01], [0.1], [0.3], [1.0]]))
    together = losses(interpreter, sound, classifier)
    assert together.keys() == {"inside", "outside", "sparsity", "guidance"}
    for clip in range(4):
        alone = losses(interpreter, sound[clip : clip + 1], classifier)
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][clip], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decoder", [lambda channels: LightDecoder(channels, width=16), PaperDecoder])
def test_gradient_reaches_the_decoder_and_not_the_classifier(decoder):
    classifier = real("cnn14")
    interpreter = LMAC(classifier.describe(), decoder)
    sound = classifier.frontend.analyze(torch.randn(2, 16000) * 0.1)
    sum(losses(interpreter, sound, classifier).values()).mean().backward()
    assert all(parameter.grad is None for parameter in classifier.parameters())
    without = [
        name
        for name, parameter in interpreter.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []


def test_losses_stay_in_float32_under_autocast():
    classifier = real("cnn14")
    interpreter = LMAC(classifier.describe(), lambda channels: LightDecoder(channels, width=16), guidance=4.0)
    sound = classifier.frontend.analyze(torch.randn(2, 16000) * 0.1)
    exact = losses(interpreter, sound, classifier)
    with torch.autocast("cpu", torch.bfloat16):
        rough = losses(interpreter, sound, classifier)
    for name, value in rough.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.1)


def test_the_paper_decoder_is_the_published_one_at_its_own_length():
    torch.manual_seed(0)
    decoder = PaperDecoder((4, 8, 16, 32))
    published = CNN14PSI_stft(dim=32, outdim=1)
    published.load_state_dict(decoder.psi.state_dict())
    maps = [torch.randn(2, c, *size) for c, size in ((4, (53, 10)), (8, (26, 5)), (16, (13, 2)), (32, (13, 2)))]
    logits = decoder(maps, torch.zeros(2, 431, 513))
    expected = published(maps[::-1])
    assert expected.shape == (2, 1, 425, 513)
    torch.testing.assert_close(logits, F.interpolate(expected, (431, 513), mode="bilinear", align_corners=False)[:, 0])


def test_a_cropped_mask_has_each_row_at_the_frame_of_its_number():
    """As the published code trained it, which drops the last 6 of 431 frames."""
    torch.manual_seed(0)
    decoder = PaperDecoder((4, 8, 16, 32), fit="crop")
    maps = [torch.randn(1, c, *size) for c, size in ((4, (53, 10)), (8, (26, 5)), (16, (13, 2)), (32, (13, 2)))]
    rows = decoder.psi(maps[::-1])[:, 0]
    logits = decoder(maps, torch.zeros(1, 431, 513))
    torch.testing.assert_close(logits[:, :425], rows)
    torch.testing.assert_close(logits[:, 425:], rows[:, -1:].expand(1, 6, 513))
    torch.testing.assert_close(decoder(maps, torch.zeros(1, 420, 513)), rows[:, :420])


@pytest.mark.parametrize("frames", [1, 87, 259, 345, 388, 432, 433, 440, 517, 862])
def test_the_paper_decoder_at_lengths_where_the_published_one_raises(frames):
    rows = [max(frames, 64) // shrink for shrink in (8, 16, 32, 32)]
    maps = [torch.zeros(1, c, h, w) for c, h, w in zip((4, 8, 16, 32), rows, (10, 5, 2, 2), strict=True)]
    assert PaperDecoder((4, 8, 16, 32))(maps, torch.zeros(1, frames, 513)).shape == (1, frames, 513)


def test_sizes_of_the_decoders_for_cnn14():
    channels = (256, 512, 1024, 2048)
    with torch.device("meta"):
        paper, light = PaperDecoder(channels), LightDecoder(channels)
    count = [sum(parameter.numel() for parameter in one.parameters()) / 1e6 for one in (paper, light)]
    assert count == [pytest.approx(236.7, abs=0.05), pytest.approx(1.19, abs=0.01)]


@pytest.mark.parametrize(("name", "sparsity"), [("lmac", 0.4), ("lmac_paper", 6.4)])
def test_the_recipes_blocks_build_from_a_bundle(name, sparsity):
    block = load_recipe([str(HPARAMS / f"{name}.yaml")]).block("interpreter")
    factory = build_trusted(block, name)["interpreter"]
    interpreter = factory(info=info(8, 16, 32, 64))
    assert interpreter.weights == {
        "inside": 4.0,
        "outside": 0.2,
        "sparsity": sparsity,
        "smoothness": 0.0,
        "guidance": 0.0,
    }
    assert isinstance(interpreter.decoder, PaperDecoder if name == "lmac_paper" else LightDecoder)


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: lmac([[0.0]], outside=-0.2), r"outside=-0\.2 must be 0 .* or more"),
        (lambda: lmac([[0.0]], outside_limit=0), "outside_limit=0 must be above 0, or null for none"),
        (lambda: lmac([[0.0]], min_correlation=60), r"min_correlation=60 must be in \[0, 1\]"),
        (lambda: LightDecoder((8,), width=16, cell=(0, 8)), "cell=.* must be two whole numbers of 1 or more"),
        (lambda: LightDecoder((8,), width=20), "width=20 must be a positive multiple of 16"),
        (lambda: LightDecoder((8,), width=32, narrowest=12), "narrowest=12 must be one of 32, 16, 8, 4, 2"),
        (lambda: PaperDecoder((8, 16)), r"needs four maps .* have \(8, 16\): use LightDecoder"),
        (lambda: PaperDecoder((8, 8, 8, 8), fit="pad"), "fit='pad' must be one of stretch, crop"),
        (
            lambda: LMAC(ClassifierInfo(2, 16000, 1024, (), frozenset({"gradient"})), LightDecoder),
            "LMAC needs maps of a classifier, and this one has no maps",
        ),
    ],
)
def test_mistakes_are_told(build, sentence):
    with pytest.raises(UsageError, match=sentence):
        build()


class BandListener(nn.Module):
    """Frozen: class 0 if there is much energy in bins 40 to 59 of 129, else 1. Its maps see all bins."""

    band = slice(40, 60)

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd(n_fft=256, window_ms=16, hop_ms=8)
        self.weight = nn.Parameter(torch.rand(20) + 0.5)
        self.convs = nn.ModuleList((nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)))
        self.requires_grad_(False)

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        image = F.avg_pool2d(spectrogram.log_magnitude.unsqueeze(1), 4)
        maps = []
        for conv in self.convs:
            image = conv(image).relu()
            maps.append(image)
        energy = spectrogram.log_magnitude[:, :, self.band].mean(dim=1) @ self.weight / 20
        logits = torch.stack((6 * energy, torch.full_like(energy, 4.2)), dim=1)
        return Evidence(logits, Features(energy[:, None], tuple(maps)))


def test_the_mask_finds_the_only_band_that_the_classifier_hears():
    torch.manual_seed(0)
    classifier = BandListener()
    interpreter = LMAC(info(8, 16), lambda channels: LightDecoder(channels, width=64))
    optimizer = torch.optim.Adam(interpreter.parameters(), 3e-3)
    for _ in range(160):
        sound = classifier.frontend.analyze(torch.randn(4, 4000) * 0.3)
        terms = losses(interpreter, sound, classifier)
        loss = sum(terms.values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        sound = classifier.frontend.analyze(torch.randn(4, 4000) * 0.3)
        evidence = classifier(sound)
        answer = interpreter.interpret(classifier, sound, evidence)
        kept, rest = classifier(answer.relevant), classifier(answer.residual)
    inside = answer.mask[:, :, classifier.band].mean().item()
    outside = torch.cat((answer.mask[:, :, :34], answer.mask[:, :, 66:]), dim=2).mean().item()
    assert evidence.prediction.tolist() == [0] * 4
    assert inside > 0.9 and outside < 0.15
    assert kept.prediction.tolist() == [0] * 4 and rest.prediction.tolist() == [1] * 4


@pytest.mark.parametrize("cell, size", [((2, 2), (44, 257)), ((2, 8), (44, 65)), ((4, 8), (22, 65))])
def test_a_light_decoder_works_at_the_resolution_of_its_cells_and_enlarges_once(cell, size):
    decoder = LightDecoder((4, 8), width=16, cell=cell)
    maps, log_magnitude = (torch.randn(2, 4, 20, 16), torch.randn(2, 8, 10, 8)), torch.rand(2, 87, 513)
    coarse = []
    decoder.last.register_forward_hook(lambda module, inputs, output: coarse.append(output))
    logit = decoder(maps, log_magnitude)
    assert coarse[0].shape == (2, 1, *size)
    assert logit.shape == log_magnitude.shape
    torch.testing.assert_close(logit, F.interpolate(coarse[0], (87, 513), mode="bilinear").squeeze(1))


def test_finer_maps_have_half_the_channels_down_to_the_narrowest():
    decoder = LightDecoder((4, 8, 16, 32), width=128, narrowest=32)
    assert [layer.out_channels for layer in decoder.projections] == [32, 32, 64, 128]
    assert [layer[0].out_channels for layer in decoder.merges] == [32, 32, 32, 64]
    assert [layer[0].out_channels for layer in decoder.ups] == [16, 8, 8, 8]
    maps = [torch.randn(2, channels, 64 // 2**level, 16) for level, channels in enumerate((4, 8, 16, 32))]
    assert decoder(maps, torch.rand(2, 50, 65)).shape == (2, 50, 65)
    everywhere = LightDecoder((4, 8, 16, 32), width=128)
    assert [layer.out_channels for layer in everywhere.projections] == [128] * 4
    assert [layer[0].out_channels for layer in everywhere.ups] == [64, 32, 16, 8]
