"""The page of a blind listening study, and the key that tells afterwards which sound came from which run."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.signal import firwin

from models.errors import UsageError
from recipes.data.audio import SILENCE_PEAK, load_mono, read_audio
from recipes.report.media import Sound, encode_sound
from recipes.report.page import render
from recipes.runs.results import read_json
from recipes.scoring.scores import QUALITY

REFERENCE, ANCHOR = "hidden reference", "anchor, 3.5 kHz"
SCALES = ("quality", "relevance")
ID_BYTES = 6


def build_study(runs: Sequence[Path], clips: int, seed: int) -> tuple[bytes, dict]:
    """The page and its key. Clips, ids and orders follow from the seed; the page reorders for every listener.

    Only clips on which all runs predict the same class are used, because relevance is rated for that class. Raises
    UsageError for runs without sounds, with different inputs, given twice, or with too few such clips in common.
    """
    if not runs or len(set(runs)) < len(runs):
        raise UsageError("give one or more different runs' folders, such as results/lmac/1234 results/lmac_td/1234")
    explanations = {}
    for run in runs:
        explanations[run] = _read_explanations(run)
    agreed = _agreed_clips(list(explanations.values()))
    if not 1 <= clips <= len(agreed):
        raise UsageError(
            f"--clips={clips} must be from 1 to {len(agreed)}, the clips that all runs explain with one prediction: "
            "raise report_clips, run interpret.py --test_only again on the same folds, or ask for fewer"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.choice(agreed, clips, replace=False).tolist()
    trials, stimuli = [], {}
    for clip in chosen:
        trial, conditions = _build_trial(runs, clip, rng)
        trials.append({"prediction": explanations[runs[0]][clip]["prediction"]} | trial)
        for stimulus, condition in conditions.items():
            stimuli[stimulus] = {"clip": clip, "condition": condition}
    key = {"study": rng.bytes(ID_BYTES).hex(), "seed": seed, "stimuli": stimuli, "proxies": {}}
    for run in runs:
        key["proxies"][run.as_posix()] = _mean_proxies([explanations[run][clip]["scores"] for clip in chosen])
    return render("listening.html", study=key["study"], trials=trials).encode(), key


def _read_explanations(run: Path) -> dict:
    """What a run says about its explained clips, by clip."""
    path = run / "media" / "explanations.json"
    if not path.is_file():
        raise UsageError(f"{run} holds no explained clips ({path}): run interpret.py with report_clips above 0")
    return read_json(path)


def _agreed_clips(explanations: Sequence[dict]) -> list[str]:
    """The clips that every run explains, and for which all of them predict one class."""
    agreed = []
    for clip in sorted(explanations[0]):
        predictions = set()
        for explained in explanations:
            predictions.add(explained[clip]["prediction"] if clip in explained else None)
        if len(predictions) == 1:
            agreed.append(clip)
    return agreed


def _build_trial(runs: Sequence[Path], clip: str, rng: np.random.Generator) -> tuple[dict, dict[str, str]]:
    """One clip's part of the page, in a drawn order under drawn ids, and the condition behind each id."""
    sounds, rate = _level_sounds(runs, clip)
    encoded = {}
    for condition, sound in sounds.items():
        encoded[condition] = encode_sound(Sound("", sound, rate))
    conditions, stimuli = {}, []
    for condition in rng.permutation(list(sounds)).tolist():
        stimulus = rng.bytes(ID_BYTES).hex()
        conditions[stimulus] = condition
        stimuli.append({"id": stimulus, "sound": encoded[condition]})
    return {"reference": encoded[REFERENCE], "stimuli": stimuli}, conditions


def _level_sounds(runs: Sequence[Path], clip: str) -> tuple[dict[str, np.ndarray], int]:
    """Every condition of a clip at the RMS level of the input, and the sample rate.

    Where one of them would clip, all are scaled down together.
    """
    paths = [run / "media" / f"{clip}_input.wav" for run in runs]
    rate = read_audio(paths[0]).sample_rate
    heard = load_mono(paths[0], rate)
    for path in paths[1:]:
        if not np.array_equal(heard, load_mono(path, rate)):
            raise UsageError(f"the runs heard different inputs as {clip}: give runs on the same data and contamination")
    sounds = {REFERENCE: heard, ANCHOR: low_pass(heard, rate)}
    for run in runs:
        sounds[run.as_posix()] = load_mono(run / "media" / f"{clip}_relevant.wav", rate)
    peak = 1.0
    for condition, sound in sounds.items():
        sounds[condition] = sound * (_rms(heard) / max(_rms(sound), SILENCE_PEAK))
        peak = max(peak, float(np.abs(sounds[condition]).max()))
    return {condition: sound / peak for condition, sound in sounds.items()}, rate


def _rms(sound: np.ndarray) -> float:
    return math.sqrt(float(np.square(sound, dtype=np.float64).mean()))


def low_pass(sound: np.ndarray, rate: int) -> np.ndarray:
    """The anchor [N]: flat to 3.5 kHz, at least 50 dB down from 4 kHz on (BS.1534-3 asks for 25 dB there).

    Raises UsageError for a rate of 8 kHz or less, since a sound at that rate holds nothing above 4 kHz.
    """
    if rate <= 8000:
        raise UsageError(f"sounds of {rate} Hz end below the anchor's 3.5 kHz: a study needs more than 8000 Hz")
    taps = firwin(2 * (rate // 180) + 1, 3750, window=("kaiser", 5.7), fs=rate)
    return np.convolve(sound, taps, mode="same").astype(np.float32)


def _mean_proxies(scores: Sequence[dict]) -> dict[str, float | None]:
    """The mean of every quality proxy over the clips where it is defined; None where it is nowhere."""
    means = {}
    for proxy in QUALITY:
        defined = []
        for clip_scores in scores:
            value = clip_scores[proxy.key]
            if value is not None:
                defined.append(value)
        means[proxy.key] = fmean(defined) if defined else None
    return means
