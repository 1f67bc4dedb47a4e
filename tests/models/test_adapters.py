"""Adapters: an image with time down the rows, and mel bands of the same magnitudes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.adapters import ImageAdapter, MelAdapter
from models.frontend import FrontEnd, Spectrogram


def spectrogram(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


def test_the_image_is_the_plane_resized_with_time_down_the_rows():
    plane = torch.arange(16.0).view(1, 4, 4)  # row t, column f
    image = ImageAdapter(2)(spectrogram(plane))
    expected = [[2.5, 4.5], [10.5, 12.5]]  # half the size: the mean of every block of four
    assert image.tolist() == [[expected] * 3]


def test_the_image_is_standardised():
    image = ImageAdapter(2, mean=1.0, std=2.0)(spectrogram(torch.arange(16.0).view(1, 4, 4)))
    assert image[0, 0].tolist() == [[0.75, 1.75], [4.75, 5.75]]


@pytest.mark.parametrize("frames", [1, 86, 431])
def test_any_length_gives_the_same_image_size(frames):
    image = ImageAdapter()(spectrogram(torch.full((2, frames, 513), 0.7)))
    assert image.shape == (2, 3, 224, 224)
    torch.testing.assert_close(image, torch.full_like(image, 0.7))


def projecting(size: int, **settings) -> ImageAdapter:
    """An image adapter whose projection is no longer at its start."""
    adapter = ImageAdapter(size, projection=4, **settings)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.3)
    return adapter


def test_a_projection_starts_as_three_replicas_to_the_bit():
    sound = spectrogram(torch.rand(2, 86, 513))
    stacked = ImageAdapter(48, mean=0.27, std=0.45)
    torch.manual_seed(3)
    adapter = ImageAdapter(48, mean=0.27, std=0.45, projection=16)
    assert torch.equal(adapter(sound), stacked(sound))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(3)))
    # 1 x 16 kernels of 5 x 5 and biases, 16 x 3 of them, and a gain and an offset for each column of each channel
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 16 * 26 + 3 * (16 * 25 + 1) + 2 * 3 * 48


def test_a_projection_leaves_its_start_in_its_first_step():
    """The last convolution, gains and offsets learn at once, and the first convolution after them."""
    adapter = ImageAdapter(32, projection=4)
    sound, wanted = spectrogram(torch.rand(2, 40, 60)), torch.rand(2, 3, 32, 32)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        (adapter(sound) - wanted).square().mean().backward()
        moved.append([bool(parameter.grad.abs().max() > 0) for parameter in adapter.parameters()])
        optimizer.step()
    names = [name.removeprefix("projection.") for name, _ in adapter.named_parameters()]
    at_once = {"gain", "offset", "local.2.weight", "local.2.bias"}
    assert moved[0] == [name in at_once for name in names] and all(moved[1])
    channels = adapter(sound)
    assert not torch.equal(channels[:, 0], channels[:, 1])


def test_a_projection_is_gain_offset_and_convolutions_of_the_normalised_plane():
    adapter = projecting(8, mean=0.5, std=2.0)
    plane = torch.rand(1, 8, 8)  # of the image's own size: nothing is interpolated
    normalised = (plane[:, None] - 0.5) / 2
    projection = adapter.projection
    first, second = projection.local[0], projection.local[2]
    hidden = F.gelu(F.conv2d(normalised, first.weight, first.bias, padding=2))
    local = F.conv2d(hidden, second.weight, second.bias, padding=2)
    expected = (normalised + local) * (1 + projection.gain) + projection.offset
    torch.testing.assert_close(adapter(spectrogram(plane)), expected)


def test_a_projection_reaches_four_bins_and_no_further():
    adapter = projecting(32)
    quiet = torch.rand(1, 32, 32)
    touched = quiet.clone()
    touched[0, 16, 10] += 1
    changed = (adapter(spectrogram(touched)) != adapter(spectrogram(quiet))).any(dim=1)[0].nonzero()
    assert (changed.amin(dim=0).tolist(), changed.amax(dim=0).tolist()) == ([12, 6], [20, 14])


def test_gradients_of_a_projection_reach_every_bin_and_are_finite_at_silence():
    adapter = projecting(224)
    log_magnitude = torch.zeros(1, 431, 513, requires_grad=True)
    adapter(spectrogram(log_magnitude)).square().sum().backward()
    assert log_magnitude.grad.isfinite().all() and (log_magnitude.grad != 0).float().mean() > 0.99


def test_mel_bands_are_log1p_of_filtered_magnitudes():
    adapter = MelAdapter(FrontEnd(), num_mels=8)
    magnitude = torch.rand(2, 70, 513)
    mel = adapter(spectrogram((1 + magnitude).log()))
    assert adapter.matrix.shape == (513, 8) and adapter.matrix.min() >= 0
    torch.testing.assert_close(mel, (1 + magnitude @ adapter.matrix).log(), atol=1e-5, rtol=1e-5)


def test_a_tone_lands_in_the_band_that_is_centred_on_it():
    # Centres divide 0 to 2595 log10(1 + 8000 / 700) = 2840 mel into 81 equal steps; the 30th lies at 1080.7 Hz.
    frontend = FrontEnd()
    hertz = 700 * (10 ** (30 * 2840.023 / 81 / 2595) - 1)
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(32000) / 16000)
    assert MelAdapter(frontend)(frontend.analyze(tone[None]))[0, 80].argmax() == 29


def test_bands_end_where_they_are_told_to():
    frequency = torch.arange(513) * 16000 / 1024
    matrix = MelAdapter(FrontEnd(), num_mels=20, f_min=300, f_max=4000).matrix
    outside, inside = (frequency <= 300) | (frequency >= 4000), (frequency > 300) & (frequency < 3900)
    assert matrix[outside].abs().max() == 0 and matrix[inside].sum(dim=1).min() > 0


def test_short_clips_are_padded_with_silence_and_long_ones_are_not():
    frontend = FrontEnd()
    adapter = MelAdapter(frontend)
    short = adapter(frontend.analyze(torch.rand(1, 1000)))
    assert short.shape == (1, 64, 80)
    assert short[:, :6].amin(dim=2).min() > 0 and short[:, 6:].abs().max() == 0
    assert adapter(frontend.analyze(torch.rand(1, 80000))).shape == (1, 431, 80)


def test_silence_stays_0_and_gradients_finite():
    adapter = MelAdapter(FrontEnd())
    log_magnitude = torch.zeros(1, 70, 513, requires_grad=True)
    mel = adapter(spectrogram(log_magnitude))
    mel.sum().backward()
    assert mel.abs().max() == 0 and log_magnitude.grad.isfinite().all() and log_magnitude.grad.max() > 0


def test_filters_follow_the_device_and_stay_out_of_the_weights():
    adapter = MelAdapter(FrontEnd())
    assert adapter.state_dict() == {} and [name for name, _ in adapter.named_buffers()] == ["matrix"]
