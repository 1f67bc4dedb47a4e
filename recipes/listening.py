"""A blind listening study of explanations, in the manner of MUSHRA (ITU-R BS.1534-3).

python -m recipes.listening results/lmac/1234 results/lmac_td/1234 --clips=20 --out=study.html
python -m recipes.listening --aggregate ratings/*.json --key=study.key.json [--screen]

The first line makes one page to send to listeners and a key to keep; the page holds no method's name. Listeners send
their ratings back as JSON, and the second line prints what they add up to.

On every clip people rate, from 0 to 100, the quality of each sound and how well it is the predicted class and nothing
else. They rate the relevant sound of every run; the *hidden reference*, which is the input itself and tops the scale of
quality (not of relevance: an explanation can hold less of other things); and the *anchor*, the input low-passed at
3.5 kHz. The standard's second anchor, at 7 kHz, would hardly differ from sounds of 16 kHz and is left out. All sounds
of a clip are brought to the input's RMS level, so that no one rates loudness.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.signal import firwin

from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.data.audio import SILENCE_PEAK, load_mono, read_audio
from recipes.report.page import Sound, encode_sound, render
from recipes.scoring.quality import PROXIES
from recipes.system.files import write_atomically

REFERENCE, ANCHOR = "hidden reference", "anchor, 3.5 kHz"
SCALES = ("quality", "relevance")
SCREEN_BELOW, SCREEN_SHARE = 90, 0.15
DRAWS = 2000


def build_study(runs: Sequence[Path], clips: int, seed: int) -> tuple[bytes, dict]:
    """The page and its key. Clips, ids and orders follow from the seed; the page reorders for every listener.

    Only clips on which all runs predict the same class are used: it is the class that relevance is rated for. Raises
    UsageError for runs without sounds, with other inputs, given twice, or with too few such clips in common.
    """
    if len(set(runs)) < max(len(runs), 1):
        raise UsageError("give one or more different runs' folders, such as results/lmac/1234 results/lmac_td/1234")
    told = {run: _explanations(run) for run in runs}
    shared = sorted(set.intersection(*(set(one) for one in told.values())))
    agreed = [clip for clip in shared if len({one[clip]["prediction"] for one in told.values()}) == 1]
    if not 1 <= clips <= len(agreed):
        raise UsageError(
            f"--clips={clips} must be from 1 to {len(agreed)}, the clips that all runs explain with one prediction: "
            "raise report_clips, run interpret.py --test_only again on the same folds, or ask for fewer"
        )
    rng = np.random.default_rng(seed)
    chosen, trials, stimuli = rng.choice(agreed, clips, replace=False).tolist(), [], {}
    for clip in chosen:
        sounds, rate = _sounds(runs, clip)
        encoded = {name: encode_sound(Sound("", sound, rate)) for name, sound in sounds.items()}
        order = {rng.bytes(6).hex(): name for name in rng.permutation(list(sounds)).tolist()}
        stimuli |= {one: {"clip": clip, "condition": name} for one, name in order.items()}
        trials.append(
            {
                "prediction": told[runs[0]][clip]["prediction"],
                "reference": encoded[REFERENCE],
                "stimuli": [{"id": one, "sound": encoded[name]} for one, name in order.items()],
            }
        )
    key = {"study": rng.bytes(6).hex(), "seed": seed, "stimuli": stimuli, "proxies": {}}
    for run in runs:
        scores = [told[run][clip]["scores"] for clip in chosen]
        key["proxies"][run.as_posix()] = {name: _mean([score[name] for score in scores]) for name in PROXIES}
    return render("listening.html", study=key["study"], trials=trials).encode(), key


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _explanations(run: Path) -> dict:
    path = run / "media" / "explanations.json"
    if not path.is_file():
        raise UsageError(f"{run} holds no explained clips ({path}): run interpret.py with report_clips above 0")
    return json.loads(path.read_text(encoding="utf-8"))


def _sounds(runs: Sequence[Path], clip: str) -> tuple[dict[str, np.ndarray], int]:
    """Every condition of a clip at one RMS level and without clipping, and the rate."""
    paths = [run / "media" / f"{clip}_input.wav" for run in runs]
    rate = read_audio(paths[0]).sample_rate
    inputs = [load_mono(path, rate) for path in paths]
    if any(not np.array_equal(inputs[0], other) for other in inputs[1:]):
        raise UsageError(f"the runs heard different inputs as {clip}: give runs on the same data and contamination")
    sounds = {REFERENCE: inputs[0], ANCHOR: low_pass(inputs[0], rate)}
    sounds |= {run.as_posix(): load_mono(run / "media" / f"{clip}_relevant.wav", rate) for run in runs}
    level = _rms(inputs[0])
    sounds = {name: one * (level / max(_rms(one), SILENCE_PEAK)) for name, one in sounds.items()}
    peak = max(1.0, *(float(np.abs(one).max()) for one in sounds.values()))
    return {name: one / peak for name, one in sounds.items()}, rate


def _rms(sound: np.ndarray) -> float:
    return math.sqrt(float(np.square(sound, dtype=np.float64).mean()))


def low_pass(sound: np.ndarray, rate: int) -> np.ndarray:
    """The anchor [N]: flat to 3.5 kHz, at least 50 dB down from 4 kHz on (BS.1534-3 asks for 25 dB there).

    Raises UsageError for a rate of 8 kHz or less, which holds nothing to take away.
    """
    if rate <= 8000:
        raise UsageError(f"sounds of {rate} Hz end below the anchor's 3.5 kHz: a study needs more than 8000 Hz")
    taps = firwin(2 * (rate // 180) + 1, 3750, window=("kaiser", 5.7), fs=rate)
    return np.convolve(sound, taps, mode="same").astype(np.float32)


def aggregate(paths: Sequence[Path], key: dict, screen: bool, seed: int = 0) -> str:
    """Means and 95% intervals of every condition, as text; proxies beside them.

    Intervals are a bootstrap over listeners and clips at once (Owen, "The pigeonhole bootstrap", 2007), because
    ratings of one listener, and of one clip, go together. screen: leave out listeners who rate the hidden reference's
    quality below 90 in more than 15% of their clips (BS.1534-3, post-screening). Raises UsageError for files that do
    not belong to the key, and when no listener is left.
    """
    ratings = [_ratings(path, key) for path in paths]
    names = [one["rater"] for one in ratings]
    if len(set(names)) < len(names):
        raise UsageError(f"two files come from one listener ({', '.join(sorted(names))}): keep one of them")
    failed = [one["rater"] for one in ratings if screen and _fails(one["ratings"], key)]
    kept = [one["ratings"] for one in ratings if one["rater"] not in failed]
    if not kept:
        raise UsageError("no listener is left to average over: collect more ratings, or leave out --screen")
    clips = list(dict.fromkeys(one["clip"] for one in key["stimuli"].values()))
    rows = [["condition", *(f"{scale} [95%]" for scale in SCALES), *PROXIES.values()]]
    for condition in (*key["proxies"], REFERENCE, ANCHOR):
        values = {scale: np.full((len(kept), len(clips)), np.nan) for scale in SCALES}
        for listener, given in enumerate(kept):
            for one in given:
                stimulus = key["stimuli"][one["stimulus"]]
                if stimulus["condition"] == condition:
                    for scale in SCALES:
                        values[scale][listener, clips.index(stimulus["clip"])] = one[scale]
        rated = ["{:.1f} [{:.1f}, {:.1f}]".format(*interval(values[scale], seed)) for scale in SCALES]
        numbers = (key["proxies"].get(condition, {}).get(name) for name in PROXIES)
        rows.append([condition, *rated, *("" if number is None else f"{number:.3g}" for number in numbers)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    rule = f"rated the hidden reference below {SCREEN_BELOW} in more than {SCREEN_SHARE:.0%} of clips"
    told = f"screened out ({rule}): {', '.join(failed) or 'nobody'}" if screen else "nobody screened (see --screen)"
    return "\n".join([*lines, f"{len(kept)} listeners, {len(clips)} clips; {told}", "Proxies are no ratings."])


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95% percentile bootstrap interval of ratings [listeners, clips], NaN where missing.

    Every draw takes listeners and clips with replacement and averages the ratings where they cross.
    """
    if np.isnan(values).all():
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(seed)
    weights = [rng.multinomial(n, np.full(n, 1 / n), DRAWS) for n in values.shape]
    given = ~np.isnan(values)
    totals, counts = (
        np.einsum("dl,lc,dc->d", weights[0], part, weights[1], optimize=True)
        for part in (np.nan_to_num(values), given.astype(float))
    )
    means = totals[counts > 0] / counts[counts > 0]
    return float(values[given].mean()), *(float(edge) for edge in np.percentile(means, (2.5, 97.5)))


def _fails(ratings: list[dict], key: dict) -> bool:
    given = [one["quality"] for one in ratings if key["stimuli"][one["stimulus"]]["condition"] == REFERENCE]
    return sum(value < SCREEN_BELOW for value in given) > SCREEN_SHARE * len(given)


def _ratings(path: Path, key: dict) -> dict:
    """A listener's file, checked against the key."""
    found = _read(path, "ratings that a listener exported", study=str, rater=str, ratings=list)
    if found["study"] != key["study"]:
        raise UsageError(f"{path} belongs to another study than the key: aggregate each study with its own key")
    for one in found["ratings"]:
        try:
            given = one["stimulus"] in key["stimuli"] and all(0 <= one[scale] <= 100 for scale in SCALES)
        except (KeyError, TypeError):
            given = False
        if not given:
            raise UsageError(f"{path} holds a rating that the study's page cannot have given: {json.dumps(one)}")
    return found


def _read(path: Path, what: str, **fields: type) -> dict:
    """A JSON object with those fields, each of its type."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): give the JSON file of {what}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in fields.items()):
        raise UsageError(f"{path} is not the JSON file of {what}: that is an object with {', '.join(fields)}")
    return found


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m recipes.listening", allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="*", help="runs to compare, such as results/lmac/1234")
    parser.add_argument("--clips", type=int, default=20, help="how many clips to rate")
    parser.add_argument("--seed", type=int, default=1234, help="draws the clips, their ids and orders")
    parser.add_argument("--out", type=Path, default=Path("study.html"), help="the page; its key goes beside it")
    parser.add_argument("--aggregate", type=Path, nargs="+", metavar="RATINGS", help="listeners' files to average")
    parser.add_argument("--key", type=Path, help="the study's key, for --aggregate")
    parser.add_argument("--screen", action="store_true", help="leave out listeners who miss the hidden reference")
    given = parser.parse_args(arguments)
    if given.aggregate:
        if given.key is None:
            raise UsageError("--aggregate needs --key, the file that was written beside the study's page")
        key = _read(given.key, "a study's key", study=str, stimuli=dict, proxies=dict)
        print(aggregate(given.aggregate, key, given.screen))
        return
    page, key = build_study(given.runs, given.clips, given.seed)
    path = given.out.with_suffix(".key.json")
    write_atomically(given.out, page)
    write_atomically(path, (json.dumps(key, indent=1) + "\n").encode())
    print(f"page for listeners: {given.out} ({len(page) / 1e6:.1f} MB)\nkey, not to be sent: {path}")


if __name__ == "__main__":
    entry(main)
