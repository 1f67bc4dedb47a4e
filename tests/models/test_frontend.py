"""The front end: exact inverse at any length, log1p magnitude by hand, masks, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram, _InverseSTFT, compress, expand

LENGTHS = [1, 100, 16000, 21920, 79999, 80000, 80001]


@pytest.mark.parametrize("samples", LENGTHS)
def test_sound_survives_the_round_trip_at_any_length(samples):
    frontend = FrontEnd()
    waveform = torch.rand(2, samples) * 2 - 1
    spectrogram = frontend.analyze(waveform)
    assert spectrogram.log_magnitude.shape == (2, frontend.num_frames(samples), frontend.num_bins)
    assert spectrogram.num_samples == samples
    torch.testing.assert_close(frontend.synthesize(spectrogram), waveform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [{"sample_rate": 44100, "n_fft": 2048}, {"window_ms": 32, "hop_ms": 8}])
def test_other_settings_invert_too(settings):
    frontend, waveform = FrontEnd(**settings), torch.rand(1, 9999) - 0.5
    torch.testing.assert_close(frontend.synthesize(frontend.analyze(waveform)), waveform, atol=1e-5, rtol=0)


def test_the_papers_plane_is_431_frames_of_513_bins():
    frontend = FrontEnd()
    assert (frontend.num_frames(80000), frontend.num_bins, frontend.hop) == (431, 513, 186)
    assert frontend.analyze(torch.zeros(1, 80000)).log_magnitude.shape == (1, 431, 513)


def test_log_magnitude_is_log1p_of_the_windowed_transform_by_hand():
    waveform = torch.rand(1, 2000) * 2 - 1
    # 372 samples of window in the middle of 1024, a frame every 186 samples, its centre on the sample.
    frames = F.pad(waveform, (512, 512)).unfold(1, 1024, 186)
    window = F.pad(torch.hamming_window(372), (326, 326))
    stft = torch.fft.rfft(frames * window)
    found = FrontEnd().analyze(waveform)
    torch.testing.assert_close(found.magnitude * found.phase, stft, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.phase.abs(), torch.ones_like(found.magnitude))
    torch.testing.assert_close(found.log_magnitude, torch.log(1 + stft.abs()), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.magnitude, stft.abs(), atol=1e-3, rtol=0)


def test_a_tone_peaks_in_its_bin():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    assert FrontEnd().analyze(tone[None]).log_magnitude[0, 40].argmax() == 1000 * 1024 / 16000


def test_mask_1_gives_the_input_back_and_mask_0_silence():
    frontend, waveform = FrontEnd(), torch.rand(2, 21920) - 0.5
    spectrogram = frontend.analyze(waveform)
    whole = spectrogram.masked(torch.ones_like(spectrogram.log_magnitude))
    nothing = spectrogram.masked(torch.zeros_like(spectrogram.log_magnitude))
    torch.testing.assert_close(frontend.synthesize(whole), waveform, atol=1e-5, rtol=0)
    assert torch.equal(frontend.synthesize(nothing), torch.zeros_like(waveform))


def test_a_mask_multiplies_log_magnitude_and_leaves_the_phase():
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    spectrogram = Spectrogram(values, torch.full_like(values, 0.6 + 0.8j, dtype=torch.complex64), 10)
    masked = spectrogram.masked(torch.tensor([[[0.5, 0.0], [1.0, 0.25]]]))
    assert masked.log_magnitude.tolist() == [[[0.5, 0.0], [3.0, 1.0]]]
    torch.testing.assert_close(masked.phase, torch.full_like(values, 0.6 + 0.8j, dtype=torch.complex64))
    assert masked.num_samples == 10 and spectrogram.log_magnitude is values
    by_bin = spectrogram.masked(torch.tensor([0.0, 1.0]))
    assert by_bin.log_magnitude.tolist() == [[[0.0, 2.0], [0.0, 4.0]]]


@pytest.mark.parametrize("shape", [(2, 3, 2), (1, 3, 3), (4,), (1, 1, 3, 2)])
def test_a_mask_of_another_shape_is_refused(shape):
    values = torch.ones(1, 3, 2)
    with pytest.raises(ValueError, match=r"mask \(.*\) does not fit \(1, 3, 2\) \[B, T, F\]"):
        Spectrogram(values, values.to(torch.complex64), 10).masked(torch.ones(shape))


def test_silence_has_phase_0_and_a_finite_gradient():
    frontend = FrontEnd()
    waveform = torch.zeros(1, 1000, requires_grad=True)
    spectrogram = frontend.analyze(waveform)
    assert spectrogram.log_magnitude.abs().max() == 0 and spectrogram.phase.abs().max() == 0
    sound = frontend.synthesize(spectrogram)
    (spectrogram.log_magnitude.sum() + sound.sum()).backward()
    assert torch.equal(sound, torch.zeros(1, 1000)) and waveform.grad.isfinite().all()


def test_a_gradient_passes_from_the_sound_to_the_mask():
    frontend = FrontEnd()
    spectrogram = frontend.analyze(torch.rand(1, 1000) - 0.5)
    mask = torch.full_like(spectrogram.log_magnitude, 0.5).requires_grad_()
    frontend.synthesize(spectrogram.masked(mask)).square().sum().backward()
    assert mask.grad.isfinite().all() and mask.grad.abs().max() > 0


def test_everything_is_float32_under_autocast_and_from_float64():
    frontend, waveform = FrontEnd(), torch.rand(1, 1000, dtype=torch.float64) - 0.5
    with torch.autocast("cpu", torch.bfloat16):
        spectrogram = frontend.analyze(waveform)
        sound = frontend.synthesize(spectrogram)
    assert spectrogram.log_magnitude.dtype == sound.dtype == torch.float32
    torch.testing.assert_close(sound, waveform.float(), atol=1e-5, rtol=0)


def test_clips_are_picked_with_their_phase():
    spectrogram = FrontEnd().analyze(torch.rand(4, 1000) - 0.5)
    for pick, rows in ((slice(1, 3), [1, 2]), (torch.tensor([3, 0]), [3, 0])):
        some = spectrogram[pick]
        assert len(some) == 2 and some.num_samples == 1000
        assert torch.equal(some.log_magnitude, spectrogram.log_magnitude[rows])
        assert torch.equal(some.phase, spectrogram.phase[rows])
    picked = spectrogram[torch.tensor([True, False, False, True])]
    assert torch.equal(picked.phase, spectrogram.phase[[0, 3]])


def test_single_clips_are_the_batch_and_hand_back_its_gradient():
    spectrogram = FrontEnd().analyze(torch.rand(3, 1000) - 0.5)
    plane = spectrogram.log_magnitude.requires_grad_()
    clips = spectrogram.single_clips()
    assert [clip.log_magnitude.shape[0] for clip in clips] == [1, 1, 1]
    for number, clip in enumerate(clips):
        assert torch.equal(clip.log_magnitude[0], plane[number]) and clip.num_samples == 1000
        assert torch.equal(clip.phase[0], spectrogram.phase[number])
    (2 * clips[0].log_magnitude.sum() + 5 * clips[2].log_magnitude.sum()).backward()
    assert plane.grad.amin(dim=(1, 2)).tolist() == plane.grad.amax(dim=(1, 2)).tolist() == [2, 0, 5]


def test_expand_inverts_compress():
    magnitude = torch.tensor([0.0, 1e-6, 1.0, 1e3])
    torch.testing.assert_close(compress(magnitude), torch.tensor([0.0, 1e-6, 0.6931472, 6.9087548]))
    torch.testing.assert_close(expand(compress(magnitude)), magnitude)


@pytest.mark.parametrize("shape", [(100,), (1, 2, 100), (2, 0)])
def test_a_waveform_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected waveforms \[B, N\] with N > 0, got"):
        FrontEnd().analyze(torch.zeros(shape))


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"sample_rate": 0}, r"sample_rate=0 Hz must be positive and n_fft=1024 an even number"),
        ({"n_fft": 511}, r"sample_rate=16000 Hz must be positive and n_fft=511 an even number from 2 on"),
        ({"window_ms": 20, "hop_ms": 20}, r"hop_ms=20 \(320 samples\), window_ms=20 \(320 samples\)"),
        ({"n_fft": 1}, r"sample_rate=16000 Hz must be positive and n_fft=1 an even number from 2 on"),
        ({"sample_rate": 48000}, r"window_ms=23\.2199 \(1115 samples\) and n_fft=1024 must satisfy 0 < hop"),
        ({"hop_ms": 30}, r"hop_ms=30 \(480 samples\), window_ms=23\.2199 \(372 samples\)"),
        ({"hop_ms": 0}, r"hop_ms=0 \(0 samples\)"),
    ],
)
def test_settings_that_cannot_be_inverted_are_told(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        FrontEnd(**settings)


@pytest.mark.parametrize("width, hop, n_fft", [(6, 3, 8), (7, 3, 8), (8, 2, 8), (5, 4, 6)])
@pytest.mark.parametrize("count", [1, 5])
def test_the_inverse_is_torchs_and_its_gradients_are_right(width, hop, n_fft, count):
    log_magnitude = torch.rand(2, count, n_fft // 2 + 1, dtype=torch.float64, requires_grad=True)
    phase = torch.sgn(torch.randn(2, count, n_fft // 2 + 1, dtype=torch.complex128)).requires_grad_()
    window = torch.hamming_window(width, dtype=torch.float64)
    num_samples = (count - 1) * hop + width // 2

    def inverse(log_magnitude, phase):
        return _InverseSTFT.apply(log_magnitude, phase, window, hop, num_samples)

    stft = (expand(log_magnitude) * phase).transpose(1, 2)
    expected = torch.istft(stft, n_fft, hop, width, window, length=num_samples)
    torch.testing.assert_close(inverse(log_magnitude, phase), expected)
    assert torch.autograd.gradcheck(inverse, (log_magnitude, phase))


def test_samples_that_no_frame_reaches_are_refused():
    log_magnitude, phase = torch.ones(1, 2, 5), torch.ones(1, 2, 5, dtype=torch.complex64)
    with pytest.raises(ValueError, match="2 frames of 6 samples, 3 apart, reach 6 of 7"):
        _InverseSTFT.apply(log_magnitude, phase, torch.ones(6), 3, 7)
