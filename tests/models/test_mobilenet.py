"""The AudioSet MobileNet: published tensors in their places, and the front end they were trained on."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchaudio
from torchaudio.compliance.kaldi import get_mel_banks

from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from models.mobilenet import MobileNet, PreemphasisMelAdapter, _PowerSpectrum, _Preemphasis
from tests.helpers import refusal

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2].parent / "shared"))
PUBLISHED = SHARED / "weights" / "mn04_as_mAP_432.pt"
SQUEEZED = (4, 5, 6, 11, 12, 13, 14, 15)


def published_layout(network: MobileNet) -> dict[str, torch.Tensor]:
    """The published layout: squeeze-and-excite layers in a list of one."""
    state = {}
    for key, value in network.state_dict().items():
        parts = key.split(".")
        if parts[-2] in ("fc1", "fc2"):
            parts[-2:-2] = ["conc_se_layers", "0"]
        state[".".join(parts)] = value
    return state


def sine(seconds: float) -> torch.Tensor:
    """1 kHz at 16 kHz, amplitude 0.5."""
    return 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(int(seconds * 16000)) / 16000)


def randomised() -> MobileNet:
    torch.manual_seed(0)
    network = MobileNet()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.3)
    return network


@pytest.fixture
def weights(tmp_path) -> Path:
    """The published file where it is at hand, else one laid out like it."""
    if PUBLISHED.is_file():
        return PUBLISHED
    torch.save(published_layout(randomised()), tmp_path / "mn04.pt")
    return tmp_path / "mn04.pt"


def test_every_tensor_of_a_checkpoint_is_loaded(weights):
    state = torch.load(weights, weights_only=True)
    assert sum(value.numel() for value in state.values()) == 993485
    assert {key.split(".")[1] for key in state if "conc_se_layers" in key} == {str(one) for one in SQUEEZED}
    network = MobileNet(str(weights))
    assert network.provenance == str(weights)
    loaded = published_layout(network)
    assert state.keys() == loaded.keys()
    assert all(torch.equal(state[key], loaded[key]) for key in state)


def test_a_checkpoint_laid_out_like_the_published_one_gives_the_same_network(tmp_path):
    network = randomised().eval()
    torch.save(published_layout(network), tmp_path / "mn04.pt")
    image = torch.randn(2, 1, 128, 100)
    torch.testing.assert_close(MobileNet(tmp_path / "mn04.pt").eval()(image).embedding, network(image).embedding)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_checkpoint_of_another_network_is_refused(tmp_path, change):
    state = published_layout(MobileNet())
    if change == "missing":
        del state["features.16.0.weight"]
    elif change == "extra":
        state["features.17.0.weight"] = torch.zeros(1)
    else:
        state["features.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"other\.pt' are not those of the MobileNet mn04: .*features\."):
        MobileNet(tmp_path / "other.pt")
    with pytest.raises(UsageError, match="no checkpoint"):
        MobileNet(tmp_path / "absent.pt")


def test_a_checkpoint_of_another_width_names_the_size(tmp_path):
    path = tmp_path / "mn05_as_mAP_443.pt"
    torch.save(published_layout(MobileNet(size="mn05")), path)
    assert MobileNet(str(path), size="mn05").provenance == str(path)
    sentence = refusal(MobileNet, str(path))
    assert sentence.startswith(f"weights='{path}' are not those of the MobileNet mn04 (pass --size=mn05)")
    assert refusal(MobileNet, size="mn99") == "size='mn99' is not one of mn04, mn05, mn10, mn20, mn30, mn40"


@pytest.mark.parametrize(
    ("size", "millions", "channels"),
    [
        ("mn04", 0.983, (16, 16, 48, 384)),
        ("mn05", 1.43, (16, 24, 56, 480)),
        ("mn10", 4.88, (24, 40, 112, 960)),
        ("mn20", 17.91, (48, 80, 224, 1920)),
        ("mn30", 39.09, (72, 120, 336, 2880)),
        ("mn40", 68.43, (96, 160, 448, 3840)),
    ],
)
def test_widths_have_the_published_numbers_of_parameters(size, millions, channels):
    """The table of EfficientAT's README; channels of torchvision's MobileNetV3-Large times the width."""
    network = MobileNet(size=size).eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.006)
    with torch.no_grad():
        features = network(torch.zeros(1, 1, 128, 64))
    assert tuple(feature_map.shape[1] for feature_map in features.maps) == channels
    assert features.embedding.shape == (1, network.embedding_size)


def test_how_fast_statistics_follow_is_as_published_or_as_asked():
    for network, momentum in ((MobileNet(), 0.01), (MobileNet(norm_momentum=0.1), 0.1)):
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert len(norms) == 46 and {norm.momentum for norm in norms} == {momentum}


def test_from_scratch_is_the_same_architecture(weights):
    scratch, pretrained = MobileNet(), MobileNet(weights)
    assert scratch.provenance == "from scratch"
    assert {k: v.shape for k, v in scratch.state_dict().items()} == {
        k: v.shape for k, v in pretrained.state_dict().items()
    }


def test_a_sine_and_silence_are_tagged_as_such(weights):
    """AudioSet's class 501 is a sine wave, 500 silence; other weights must tag as their own network does."""
    frontend = FrontEnd()
    image = PreemphasisMelAdapter(frontend)(frontend.analyze(torch.stack([sine(5), torch.zeros(5 * 16000)])))
    with torch.no_grad():
        embedding = MobileNet(weights).eval()(image).embedding
        if weights == PUBLISHED:
            assert embedding[:, -527:].argmax(dim=1).tolist() == [501, 500]
        else:
            torch.testing.assert_close(embedding, randomised().eval()(image).embedding)


def test_the_embedding_joins_rows_hidden_layer_and_tags():
    network, image = randomised().eval(), torch.randn(2, 1, 128, 200)
    with torch.no_grad():
        found = network(image)
        last = found.maps[-1].transpose(2, 3)  # [2, 384, 4, w]
        hidden = F.hardswish(F.linear(last.mean(dim=(2, 3)), *network.classifier[2].parameters()))
        tags = F.linear(hidden, *network.classifier[5].parameters())
    assert network.embedding_size == 4 * 384 + 512 + 527
    torch.testing.assert_close(found.embedding, torch.cat([last.mean(dim=3).flatten(1), hidden, tags], dim=1))


def test_map_rows_run_along_time_and_columns_along_frequency():
    torch.manual_seed(0)
    network = MobileNet().eval()
    image = torch.randn(1, 1, 128, 500)
    later, higher = image.clone(), image.clone()
    later[..., 400:] += 3
    higher[:, :, 112:] += 3
    with torch.no_grad():
        fine = network.features[:4](image)
        maps, later_maps, higher_maps = (network(one).maps for one in (image, later, higher))
    assert [tuple(one.shape[1:]) for one in maps] == [(16, 125, 32), (16, 63, 16), (48, 32, 8), (384, 16, 4)]
    torch.testing.assert_close(maps[0], fine.transpose(2, 3))
    moved = (later_maps[0] - maps[0]).abs().amax(dim=(0, 1))  # [h, w]
    assert moved[:95].max() == 0 and moved[105:].amax(dim=1).min() > 0
    moved = (higher_maps[0] - maps[0]).abs().amax(dim=(0, 1))
    assert moved[:, :24].max() == 0 and moved[:, 29:].amax(dim=0).min() > 0


def test_mel_bands_are_kaldis():
    adapter = PreemphasisMelAdapter(FrontEnd())
    bands = get_mel_banks(128, 1024, 32000, 0.0, 15000.0, 100.0, -500.0, 1.0)[0]
    assert adapter.matrix.shape == (128, 513)
    torch.testing.assert_close(adapter.matrix[:, :512], bands)
    assert adapter.matrix[:, 512].abs().max() == 0
    # mel(f) = 1127 ln(1 + f / 700): 128 triangles whose corners divide mel(15000) into 129 equal parts
    mel = 1127 * torch.log1p(torch.arange(513) * 31.25 / 700)
    step = 1127 * torch.log1p(torch.tensor(15000 / 700)) / 129
    expected = (1 - (mel - 64 * step).abs() / step).clamp(min=0)
    torch.testing.assert_close(adapter.matrix[63], expected, atol=1e-4, rtol=0)
    assert not any(key.startswith(("matrix", "window")) for key in adapter.state_dict())


def test_a_tone_lands_in_its_band_at_its_level():
    """A sine of amplitude a on bin 32 has power (a |W(k - 32)| / 2)^2 in bin k, W the window's spectrum."""
    frontend = FrontEnd()
    adapter = PreemphasisMelAdapter(frontend)
    image = adapter(frontend.analyze(sine(3)[None]))
    assert image.shape == (1, 1, 128, 300) and image.dtype == torch.float32
    column = image[0, 0, :, 150]
    emphasis = (1 - 0.97 * torch.exp(torch.tensor(-2j * torch.pi * 1000 / 32000))).abs()
    window = torch.hann_window(800, periodic=False)
    offsets = torch.arange(513)[:, None] - 32
    response = (window * torch.exp(-2j * torch.pi * offsets * torch.arange(800) / 1024)).sum(dim=1).abs()
    spectrum = (0.5 * emphasis / 2 * response) ** 2
    expected = (torch.log(adapter.matrix @ spectrum + 1e-5) + 4.5) / 5
    band = int(expected.argmax())
    assert int(column.argmax()) == band
    torch.testing.assert_close(column[band - 2 : band + 3], expected[band - 2 : band + 3], atol=0.02, rtol=0)


@pytest.mark.parametrize("rate", [16000, 22050, 32000, 44100])
def test_any_rate_and_length(rate):
    frontend = FrontEnd(sample_rate=rate, n_fft=2048)
    adapter = PreemphasisMelAdapter(frontend)
    network = MobileNet().eval()
    for samples in (1, 100, rate // 4, rate):
        image = adapter(frontend.analyze(torch.rand(2, samples) - 0.5))
        heard = max(1024, -(-samples * 32000 // rate))  # samples at 32 kHz, at least one FFT
        assert image.shape == (2, 1, 128, (heard - 1) // 320 + 1) and image.isfinite().all()
        assert network(image).embedding.isfinite().all()


def plain_image(adapter: PreemphasisMelAdapter, spectrogram: Spectrogram) -> torch.Tensor:
    """The adapter's image by torchaudio's resampling and torch's STFT, as the network's authors compute it."""
    waveform = adapter.frontend.synthesize(spectrogram)
    waveform = torchaudio.functional.resample(waveform, adapter.frontend.sample_rate, 32000)
    waveform = F.pad(waveform, (0, max(0, 1024 - waveform.shape[1])))
    waveform = waveform[:, 1:] - 0.97 * waveform[:, :-1]
    stft = torch.stft(waveform, 1024, 320, 800, adapter.window, return_complex=True)
    power = stft.real.square() + stft.imag.square()
    return ((torch.log(adapter.matrix @ power + 1e-5) + 4.5) / 5).unsqueeze(1)


@pytest.mark.parametrize("samples", [1, 300, 16000, 30001])
def test_the_image_and_its_gradient_are_those_of_the_plain_computation(samples):
    frontend = FrontEnd()
    adapter = PreemphasisMelAdapter(frontend)
    spectrogram = frontend.analyze(0.1 * torch.randn(2, samples))
    mask = torch.rand_like(spectrogram.log_magnitude).requires_grad_()
    expected = plain_image(adapter, spectrogram.masked(mask))
    found = adapter(spectrogram.masked(mask))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    direction = torch.randn_like(expected)
    (expected_slope,) = torch.autograd.grad((expected * direction).sum(), mask)
    (slope,) = torch.autograd.grad((found * direction).sum(), mask)
    torch.testing.assert_close(slope, expected_slope, atol=1e-3, rtol=1e-3)


def test_the_gradient_of_a_power_spectrum_is_numerically_right():
    waveform = torch.randn(2, 21, dtype=torch.float64, requires_grad=True)  # the last sample is in no frame
    window = torch.rand(10, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda waveform: _PowerSpectrum.apply(waveform, window, 5, 16), waveform)
    power = _PowerSpectrum.apply(waveform, window, 5, 16)
    torch.testing.assert_close(power, torch.fft.rfft(waveform.unfold(1, 10, 5) * window, 16).abs().square())


def test_preemphasis_mirrors_what_it_emphasised():
    emphasised = _Preemphasis.apply(torch.tensor([[1.0, 2.0, 4.0, 8.0]]), 2)
    first, second, third = 2 - 0.97, 4 - 0.97 * 2, 8 - 0.97 * 4
    torch.testing.assert_close(emphasised, torch.tensor([[third, second, first, second, third, second, first]]))
    waveform = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda waveform: _Preemphasis.apply(waveform, 3), waveform)


def test_a_clip_has_the_same_image_alone_and_in_a_batch():
    frontend = FrontEnd()
    adapter = PreemphasisMelAdapter(frontend)
    spectrogram = frontend.analyze(0.1 * torch.randn(3, 8000))
    assert torch.equal(adapter(spectrogram)[1:2], adapter(spectrogram[1:2]))


def test_silence_is_finite_and_gradients_reach_the_mask():
    frontend = FrontEnd()
    adapter, network = PreemphasisMelAdapter(frontend), MobileNet().eval()
    torch.manual_seed(0)
    sounds = torch.stack([torch.zeros(16000), torch.rand(16000) - 0.5])
    sounds[1, 8000:] = 0
    spectrogram = frontend.analyze(sounds)
    mask = torch.ones_like(spectrogram.log_magnitude).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        image = adapter(spectrogram.masked(mask))
        assert image.dtype == torch.float32
        evidence = network(image).embedding.float()
    torch.testing.assert_close(image[0], torch.full_like(image[0], (torch.log(torch.tensor(1e-5)) + 4.5) / 5))
    evidence.sum().backward()
    assert mask.grad.isfinite().all()
    assert mask.grad[0].abs().max() == 0 and mask.grad[1, :40].abs().min(dim=0).values.max() > 0


def test_a_mask_removes_what_it_covers():
    frontend = FrontEnd()
    adapter = PreemphasisMelAdapter(frontend)
    torch.manual_seed(0)
    spectrogram = frontend.analyze(torch.rand(1, 32000) - 0.5)
    mask = torch.ones_like(spectrogram.log_magnitude)
    mask[:, :, 256:] = 0
    whole, kept = adapter(spectrogram)[0, 0], adapter(spectrogram.masked(mask))[0, 0]
    low, high = slice(0, 60), slice(90, 100)  # below 2.4 kHz; from 5.3 to 7 kHz
    assert (kept[low] - whole[low]).abs().mean() < 0.01
    assert (whole[high] - kept[high]).mean() > 1


def test_a_frozen_batch_norm_keeps_its_statistics_in_training():
    torch.manual_seed(0)
    image = torch.randn(4, 1, 64, 50)
    for frozen in (True, False):
        network = MobileNet(freeze_norm=frozen).train()
        before = {key: value.clone() for key, value in network.state_dict().items() if "running" in key}
        network(image)
        after = network.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items()) is frozen
        assert network.classifier[4].training  # dropout still drops


def test_a_frozen_batch_norm_stays_frozen_where_torchrun_synchronises_it():
    network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(MobileNet(freeze_norm=True)).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert norms and not any(norm.training for norm in norms)
