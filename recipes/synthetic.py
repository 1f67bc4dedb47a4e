"""A synthetic corpus in ESC-50's layout, to run everything without a download and with the truth at hand.

`python -m recipes.synthetic FOLDER` writes `meta/synthetic.csv` and `audio/<id>.flac` as ESC-50 names them: mono,
16 bit, each clip one event over faint white noise. `truth/<id>.flac` is the event alone, sample-aligned; by
`truth/support.csv` it is zero outside [onset_s, offset_s) and has 99 % of its energy from low_hz to high_hz.
For any STFT the ideal binary mask is True where |STFT(event)| > |STFT(clip - event)|. `mixtures/<id>.flac` is
gain_first * first + gain_second * second, clips of one fold and two classes, listed in `truth/mixtures.csv`:
snr_db compares the scaled clips' RMS over their length; both gains contain scale, which prevents clipping.
"""

import argparse
import csv
import inspect
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import fftconvolve, windows

from models.errors import UsageError

VERSION = 1  # raise it when a change here alters the sounds
FOLDS = 5
RANGES = {"seconds": (1, 60), "sample_rate": (16000, 192000), "seed": (0, 2**32 - 1), "mixtures": (0, 100000)}
FULL_SCALE = 32768
EDGE_HZ = 30.0  # room for what the fades spread beyond the nominal frequencies


@dataclass(frozen=True)
class Event:
    """A sound [N] of any level and the band in Hz that holds its energy."""

    waveform: np.ndarray
    low_hz: float
    high_hz: float


@dataclass(frozen=True)
class SyntheticClip:
    """A clip and its truth: `samples` and `event` are int16 [N], the event lies in [onset, offset)."""

    id: str
    samples: np.ndarray
    event: np.ndarray
    onset: int
    offset: int
    low_hz: float
    high_hz: float


def tone_stack(rng, count, rate, base, ratios):
    """Steady partials at fixed ratios of one fundamental."""
    pitch = rng.uniform(*base)
    partials = [rng.uniform(0.5, 1) * _sine(rng, np.full(count, pitch * ratio), rate) for ratio in ratios]
    return _faded(sum(partials), rate, pitch * min(ratios), pitch * max(ratios))


def chirp(rng, count, rate, step):
    """One linear sweep, up for `step` 1 and down for -1; both draw the same frequencies, only time tells."""
    low, high = rng.uniform(500, 900), rng.uniform(2500, 4500)
    return _faded(_sine(rng, np.linspace(low, high, count)[::step], rate), rate, low, high)


def modulated_tone(rng, count, rate, depth, deviation):
    """A tone, its amplitude modulated by `depth` or its frequency by `deviation` Hz; the band is Carson's."""
    carrier, deviation, modulation = rng.uniform(800, 1600), rng.uniform(*deviation), rng.uniform(3, 8)
    modulator = _sine(rng, np.full(count, modulation), rate)
    waveform = (1 + depth * modulator) * _sine(rng, carrier + deviation * modulator, rate)
    return _faded(waveform, rate, carrier - deviation - modulation, carrier + deviation + modulation)


def band_noise(rng, count, rate, low, width):
    """White noise with every DFT bin outside a random band set to zero."""
    start, extent = rng.uniform(*low), rng.uniform(*width)
    spectrum, hertz = np.fft.rfft(rng.standard_normal(count)), np.fft.rfftfreq(count, 1 / rate)
    spectrum[(hertz < start) | (hertz > start + extent)] = 0
    return _faded(np.fft.irfft(spectrum, count), rate, start, start + extent)


def pulses(rng, count, rate, resonance, decay, gap, jitter):
    """Second-order gammatones about `gap` seconds apart; six half-widths hold 99.8 % of their power."""
    resonance, decay, gap = rng.uniform(*resonance), rng.uniform(*decay), rng.uniform(*gap)
    time, reach = np.arange(round(12 * decay * rate)) / rate, 6 / (2 * np.pi * decay)
    pulse = time * np.exp(-time / decay) * np.cos(2 * np.pi * resonance * time + rng.uniform(0, 2 * np.pi))
    gaps = gap * rng.uniform(1 - jitter, 1 + jitter, size=count)
    starts = (np.cumsum(gaps) - gaps[0]) * rate
    starts = starts[starts < count - len(pulse)].astype(int)
    return Event(fftconvolve(np.bincount(starts), pulse), resonance - reach, resonance + reach)


def _sine(rng, frequency, rate):
    return np.sin(2 * np.pi * np.cumsum(frequency) / rate + rng.uniform(0, 2 * np.pi))


def _faded(waveform, rate, low_hz, high_hz):
    """The event with raised-cosine fades of 20 ms."""
    window = windows.tukey(len(waveform), 2 * 0.02 * rate / len(waveform))
    return Event(waveform * window, low_hz - EDGE_HZ, high_hz + EDGE_HZ)


CLASSES = {
    "low_tone": partial(tone_stack, base=(150, 350), ratios=(1, 2, 3, 4)),
    "high_tone": partial(tone_stack, base=(2200, 3600), ratios=(1, 1.5)),
    "rising_chirp": partial(chirp, step=1),
    "falling_chirp": partial(chirp, step=-1),
    "clicks": partial(pulses, resonance=(2500, 5000), decay=(0.0005, 0.001), gap=(0.06, 0.12), jitter=0),
    "low_noise": partial(band_noise, low=(200, 500), width=(400, 900)),
    "high_noise": partial(band_noise, low=(2800, 4500), width=(800, 2000)),
    "tremolo": partial(modulated_tone, depth=1, deviation=(0, 0)),
    "siren": partial(modulated_tone, depth=0, deviation=(200, 400)),
    "knocks": partial(pulses, resonance=(250, 600), decay=(0.006, 0.012), gap=(0.15, 0.25), jitter=0.5),
}
CATEGORIES = tuple(CLASSES)


def make_clip(target, index, seconds, sample_rate, seed) -> SyntheticClip:
    """Clip `index` of class `target`, whatever the corpus's size; the event fills at most 0.7 of it."""
    rng = np.random.default_rng([seed, target, index])
    total = round(seconds * sample_rate)
    event = CLASSES[CATEGORIES[target]](rng, round(rng.uniform(0.35, 0.7) * total), sample_rate)
    onset = int(rng.integers(total - len(event.waveform)))
    offset = onset + len(event.waveform)
    level = np.exp(rng.uniform(*np.log([0.2, 0.8]))) / np.abs(event.waveform).max()
    alone = np.pad(_quantized(level * event.waveform), (onset, total - offset))
    samples = _quantized(alone / FULL_SCALE + rng.uniform(0.0005, 0.002) * rng.standard_normal(total))
    name = f"{index % FOLDS + 1}-{100000 + 10 * index + target}-A-{target}"
    return SyntheticClip(name, samples, alone, onset, offset, event.low_hz, event.high_hz)


def _quantized(waveform):
    return np.rint(waveform * FULL_SCALE).astype(np.int16)


def make_corpus(folder, clips_per_class=20, seconds=2.0, sample_rate=16000, seed=0, mixtures=50) -> Path:
    """Write the corpus into `folder`, whole or not at all, or find it there; return the folder.

    One seed gives the same bytes under one version of NumPy, SciPy and libsndfile. Raises UsageError for a
    setting out of range, and for a folder that holds anything else than a corpus of these settings.
    """
    settings = {**locals(), "seconds": float(seconds), "version": VERSION}
    folder = Path(settings.pop("folder")).resolve()
    if clips_per_class < 1 or clips_per_class % FOLDS:
        raise UsageError(f"clips_per_class={clips_per_class} leaves folds uneven: give a multiple of {FOLDS}.")
    for name, (low, high) in RANGES.items():
        if not low <= settings[name] <= high:
            raise UsageError(f"{name}={settings[name]} is out of range: give a value from {low} to {high}.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        _require_same(folder, settings)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as stage:
        return _write(Path(stage) / "corpus", settings).rename(folder)


def _require_same(folder, settings):
    try:
        found = dict(json.loads((folder / "settings.json").read_text()))
    except (OSError, TypeError, ValueError):
        raise UsageError(f"{folder} holds no synthetic corpus but other files: name a new folder.") from None
    changed = [name for name in settings if found.get(name) != settings[name]]
    made, asked = (", ".join(f"{name}={side.get(name)}" for name in changed) for side in (found, settings))
    if changed:
        raise UsageError(f"{folder} was made with {made}, not with {asked}: name a new folder or remove it.")


def _write(folder, settings):
    rate, per_class = settings["sample_rate"], settings["clips_per_class"]
    clips, support, mixtures = [], [], []
    make = partial(make_clip, seconds=settings["seconds"], sample_rate=rate, seed=settings["seed"])
    save = partial(soundfile.write, samplerate=rate, subtype="PCM_16")
    for kind in ("meta", "audio", "truth", "mixtures"):
        (folder / kind).mkdir(parents=True)
    for target, index in product(range(len(CLASSES)), range(per_class)):
        clip = make(target, index)
        save(folder / f"audio/{clip.id}.flac", clip.samples)
        save(folder / f"truth/{clip.id}.flac", clip.event)
        fold, source, take, _ = clip.id.split("-")
        clips.append((f"{clip.id}.flac", fold, target, CATEGORIES[target], False, source, take))
        support.append((clip.id, clip.onset / rate, clip.offset / rate, clip.low_hz, clip.high_hz))
    for index in range(settings["mixtures"]):
        rng = np.random.default_rng([settings["seed"], len(CLASSES), index])
        fold, targets, snr_db = index % FOLDS, rng.permutation(len(CLASSES))[:2].tolist(), rng.uniform(-5, 5)
        pair = [make(target, fold + FOLDS * int(rng.integers(per_class // FOLDS))) for target in targets]
        first, second = (clip.samples / FULL_SCALE for clip in pair)
        gain = np.linalg.norm(first) / np.linalg.norm(second) * 10 ** (-snr_db / 20)
        scale = min(1.0, 0.95 / np.abs(first + gain * second).max())
        name, labels = f"{fold + 1}-{index:05d}-M", " ".join(CATEGORIES[target] for target in targets)
        save(folder / f"mixtures/{name}.flac", _quantized(scale * first + scale * gain * second))
        mixtures.append((name, fold + 1, pair[0].id, pair[1].id, labels, snr_db, scale, scale * gain, scale))
    for table, header, rows in (
        ("meta/synthetic.csv", "filename fold target category esc10 src_file take", clips),
        ("truth/support.csv", "id onset_s offset_s low_hz high_hz", support),
        ("truth/mixtures.csv", "id fold first second labels snr_db gain_first gain_second scale", mixtures),
    ):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header.split(), *sorted(rows)])
    (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    return folder


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    for name, parameter in list(inspect.signature(make_corpus).parameters.items())[1:]:
        parser.add_argument(f"--{name}", type=type(parameter.default), default=parameter.default)
    try:
        print(make_corpus(**vars(parser.parse_args(arguments))))
    except UsageError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
