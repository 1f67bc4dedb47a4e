"""The resampler against torchaudio's, at every rate and length, and its gradient."""

import pytest
import torch
import torchaudio

from models.resampling import Resampler


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
def test_samples_are_torchaudios(rate):
    resampler = Resampler(rate, 32000)
    for samples in (1, 50, 1024, 4001):
        waveform = torch.randn(2, samples)
        expected = torchaudio.functional.resample(waveform, rate, 32000)
        torch.testing.assert_close(resampler(waveform), expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_torchaudios():
    waveform, direction = torch.randn(2, 500, requires_grad=True), torch.randn(2, 1000)
    expected = torch.autograd.grad((torchaudio.functional.resample(waveform, 16000, 32000) * direction).sum(), waveform)
    found = torch.autograd.grad((Resampler(16000, 32000)(waveform) * direction).sum(), waveform)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_stored_in_a_bundle():
    assert Resampler(16000, 32000).state_dict() == {}
