"""The ten classes of sound of the synthetic corpus: each event is drawn at random, and the band of its energy is known.

Frequencies are in Hz, times in seconds, waveforms float64 [N] of any level. A pair such as `pitch = (150, 350)` is the
range from which an event draws its value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.signal import fftconvolve, windows

Range = tuple[float, float]

FADE_SECONDS = 0.02
EDGE_HZ = 30.0
"""Room for what the fades spread beyond the nominal frequencies."""


@dataclass(frozen=True)
class BandSound:
    """A sound [N] and the band that holds 99 % of its energy."""

    waveform: np.ndarray
    low_hz: float
    high_hz: float


class SoundClass(Protocol):
    """A kind of event."""

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        """An event of `count` samples at `rate`."""
        ...


@dataclass(frozen=True)
class ToneStack:
    """Steady partials at fixed ratios of one fundamental."""

    pitch: Range
    ratios: Sequence[float]

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        pitch = rng.uniform(*self.pitch)
        waveform = np.zeros(count)
        for ratio in self.ratios:
            amplitude = rng.uniform(0.5, 1)
            waveform += amplitude * _sine(rng, np.full(count, pitch * ratio), rate)
        return _faded(waveform, rate, pitch * min(self.ratios), pitch * max(self.ratios))


@dataclass(frozen=True)
class Chirp:
    """One linear sweep. Rising and falling ones draw the same frequencies: only their order in time differs."""

    rising: bool

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        low, high = rng.uniform(500, 900), rng.uniform(2500, 4500)
        frequency = np.linspace(low, high, count)
        if not self.rising:
            frequency = frequency[::-1]
        return _faded(_sine(rng, frequency, rate), rate, low, high)


@dataclass(frozen=True)
class ModulatedTone:
    """A tone whose amplitude is modulated by `depth`, and its frequency by `deviation` Hz. The band is Carson's."""

    depth: float
    deviation: Range

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        carrier = rng.uniform(800, 1600)
        deviation = rng.uniform(*self.deviation)
        modulation = rng.uniform(3, 8)
        modulator = _sine(rng, np.full(count, modulation), rate)
        waveform = (1 + self.depth * modulator) * _sine(rng, carrier + deviation * modulator, rate)
        return _faded(waveform, rate, carrier - deviation - modulation, carrier + deviation + modulation)


@dataclass(frozen=True)
class BandNoise:
    """White noise with every DFT bin outside a random band set to zero."""

    low: Range
    width: Range

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        low, width = rng.uniform(*self.low), rng.uniform(*self.width)
        spectrum, hertz = np.fft.rfft(rng.standard_normal(count)), np.fft.rfftfreq(count, 1 / rate)
        spectrum[(hertz < low) | (hertz > low + width)] = 0
        return _faded(np.fft.irfft(spectrum, count), rate, low, low + width)


@dataclass(frozen=True)
class Pulses:
    """Second-order gammatones about `gap` seconds apart; six half-widths hold 99.8 % of their power.

    jitter: by which share of itself a gap may vary.
    """

    resonance: Range
    decay: Range
    gap: Range
    jitter: float

    def draw(self, rng: np.random.Generator, count: int, rate: int) -> BandSound:
        resonance, decay, gap = rng.uniform(*self.resonance), rng.uniform(*self.decay), rng.uniform(*self.gap)
        time = np.arange(round(12 * decay * rate)) / rate
        phase = rng.uniform(0, 2 * np.pi)
        pulse = time * np.exp(-time / decay) * np.cos(2 * np.pi * resonance * time + phase)
        gaps = gap * rng.uniform(1 - self.jitter, 1 + self.jitter, size=count)
        starts = (np.cumsum(gaps) - gaps[0]) * rate
        starts = starts[starts < count - len(pulse)].astype(int)
        reach = 6 / (2 * np.pi * decay)
        return BandSound(fftconvolve(np.bincount(starts), pulse), resonance - reach, resonance + reach)


CLASSES: dict[str, SoundClass] = {
    "low_tone": ToneStack(pitch=(150, 350), ratios=(1, 2, 3, 4)),
    "high_tone": ToneStack(pitch=(2200, 3600), ratios=(1, 1.5)),
    "rising_chirp": Chirp(rising=True),
    "falling_chirp": Chirp(rising=False),
    "clicks": Pulses(resonance=(2500, 5000), decay=(0.0005, 0.001), gap=(0.06, 0.12), jitter=0),
    "low_noise": BandNoise(low=(200, 500), width=(400, 900)),
    "high_noise": BandNoise(low=(2800, 4500), width=(800, 2000)),
    "tremolo": ModulatedTone(depth=1, deviation=(0, 0)),
    "siren": ModulatedTone(depth=0, deviation=(200, 400)),
    "knocks": Pulses(resonance=(250, 600), decay=(0.006, 0.012), gap=(0.15, 0.25), jitter=0.5),
}


def _sine(rng: np.random.Generator, frequency: np.ndarray, rate: int) -> np.ndarray:
    """A sine of that frequency at every sample [N], from a random phase on."""
    phase = rng.uniform(0, 2 * np.pi)
    return np.sin(2 * np.pi * np.cumsum(frequency) / rate + phase)


def _faded(waveform: np.ndarray, rate: int, low_hz: float, high_hz: float) -> BandSound:
    """The sound with raised-cosine fades at both ends, in its band and what the fades spread beyond it."""
    window = windows.tukey(len(waveform), 2 * FADE_SECONDS * rate / len(waveform))
    return BandSound(waveform * window, low_hz - EDGE_HZ, high_hz + EDGE_HZ)
