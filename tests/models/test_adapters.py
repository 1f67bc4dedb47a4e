"""Adapters: an image with time down the rows, and mel bands of the same magnitudes."""

import pytest
import torch

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
