"""Signals that deceive: sounds that decode well and yet are not what a classifier should be asked about."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SILENCE_PEAK = 1e-4
"""An absolute peak below this (-80 dB of full scale) counts as silence."""

LARGE_OFFSET = 0.02
"""Share of the peak from which a constant offset is told; 1 % of ESC-50's clips have a larger one."""

FEWEST_SAMPLES = 100
"""A shorter sound has no constant offset apart from itself."""

LARGE_LOSS_DB = 10.0
"""Mixing independent channels loses 3 dB for two and 9 dB for eight; more says that they cancel."""

FULL_SCALE = 0.999
LARGEST_PEAK = 2.0
"""Floats beyond this are on a scale of their own, where full scale has clipped nothing."""

CLIPPED_SAMPLES = 10
CLIPPED_SHARE = 1e-4
"""Clipping is told from this number and this share of samples at full scale."""

FAULTS = {
    "silent": "hold digital silence",
    "offset": "have a constant offset",
    "cancelling": "have channels that cancel each other",
    "clipped": "are clipped or nearly so",
    "length": "have a header that gives another length than they hold",
}
"""Kinds of fault, and what is said of several files that have one."""


@dataclass(frozen=True)
class Fault:
    """A fault of one file: its kind, of `FAULTS`, and a clause about it, such as "it is digital silence"."""

    kind: str
    clause: str


@dataclass
class SignalMeter:
    """Measures a sound block by block; `faults` then says what is wrong with it.

    It does not depend on how the sound is divided into blocks, except that sums are rounded in another order.
    """

    count: int = 0
    peak: float = 0.0
    clipped: int = 0
    total: float = 0.0
    mono_power: float = 0.0
    channel_power: float = 0.0

    def add(self, block: np.ndarray) -> None:
        """Measure the next samples of a sound, [channels, samples], full scale 1."""
        if not block.shape[1]:
            return
        mono = block.mean(axis=0, dtype=np.float64)
        magnitude = np.abs(block)
        self.count += block.shape[1]
        self.peak = max(self.peak, float(magnitude.max()))
        self.clipped += int((magnitude.max(axis=0) >= FULL_SCALE).sum())
        self.total += float(mono.sum())
        self.mono_power += float(mono @ mono)
        self.channel_power += float(np.square(block, dtype=np.float64).sum()) / len(block)

    def faults(self) -> list[Fault]:
        """What is wrong with the sound so far, in the order of `FAULTS`; a silent one has no other fault."""
        if self.count == 0 or self.peak < SILENCE_PEAK:
            return [Fault("silent", "it is digital silence")]
        faults = []
        offset = self.total / self.count
        if self.count >= FEWEST_SAMPLES and abs(offset) > LARGE_OFFSET * self.peak:
            share = abs(offset) / self.peak
            faults.append(
                Fault("offset", f"it has a constant offset of {share:.0%} of its peak: subtract its mean first")
            )
        loss = self._loss_db()
        if loss > LARGE_LOSS_DB:
            lost = f"lose {loss:.0f} dB" if loss < 90 else "cancel each other altogether"
            faults.append(Fault("cancelling", f"its channels {lost} when mixed to one: give one of them"))
        many = self.clipped >= max(CLIPPED_SAMPLES, CLIPPED_SHARE * self.count)
        if many and self.peak <= LARGEST_PEAK:
            faults.append(
                Fault("clipped", f"{self.clipped} of its {self.count} samples reach full scale: it may be clipped")
            )
        return faults

    def _loss_db(self) -> float:
        """Level in dB that the mean of the channels has lost against the channels."""
        if self.mono_power == 0:
            return math.inf
        return 10 * math.log10(self.channel_power / self.mono_power)


def signal_faults(waveform: np.ndarray) -> list[Fault]:
    """The faults of a sound [channels, samples] at full scale 1."""
    meter = SignalMeter()
    meter.add(waveform)
    return meter.faults()


def sentence(name: object, faults: Iterable[Fault]) -> str:
    """One sentence about the faults of one file."""
    return f"{name}: {'; '.join(fault.clause for fault in faults)}."
