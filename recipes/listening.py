"""A blind listening study of explanations, in the manner of MUSHRA (ITU-R BS.1534-3).

python -m recipes.listening results/lmac/1234 results/lmac_td/1234 --clips=20 --out=study.html
python -m recipes.listening --aggregate ratings/*.json --key=study.key.json [--screen]

The first line makes one page to send to listeners and a key to keep; the page holds no method's name. Listeners send
their ratings back as JSON, and the second line prints the mean ratings.

For every clip, listeners rate several sounds from 0 to 100, in their quality and in their relevance: how well the sound
is the predicted class and nothing else. They rate the relevant sound of every run, the *hidden reference* and the
*anchor*. The hidden reference is the input itself. It is the best possible in quality, but not in relevance, since an
explanation can leave out what else is heard. The anchor is the input, low-passed at 3.5 kHz. The standard's second
anchor, at 7 kHz, is left out because it would hardly differ from sounds of 16 kHz. All sounds of a clip are brought to
the RMS level of the input, so that nobody rates loudness.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.report.study import ANCHOR, REFERENCE, SCALES, build_study
from recipes.scoring.scores import QUALITY
from recipes.scoring.statistics import bootstrap_interval
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically

SCREEN_BELOW, SCREEN_SHARE = 90, 0.15
"""BS.1534-3: a listener who rates the hidden reference below 90 in more than 15 % of the clips is left out."""


def aggregate(paths: Sequence[Path], key: dict, screen: bool, seed: int = 0) -> str:
    """Means and 95 % intervals of every condition, as text; quality proxies beside them.

    Intervals are a bootstrap over listeners and clips at once, because ratings of one listener, and of one clip, go
    together. screen: leave out listeners by the rule of `SCREEN_BELOW` and `SCREEN_SHARE`. Raises UsageError for files
    that do not belong to the key, and when no listener is left.
    """
    answers = [_read_answers(path, key) for path in paths]
    names = [answer["rater"] for answer in answers]
    if len(set(names)) < len(names):
        raise UsageError(f"two files come from one listener ({', '.join(sorted(names))}): keep one of them")
    kept, screened_out = [], []
    for answer in answers:
        if screen and fails_screening(answer["ratings"], key):
            screened_out.append(answer["rater"])
        else:
            kept.append(answer["ratings"])
    if not kept:
        raise UsageError("no listener is left to average over: collect more ratings, or leave out --screen")
    clips = list(dict.fromkeys(stimulus["clip"] for stimulus in key["stimuli"].values()))
    rows = [_headings()]
    for condition in (*key["proxies"], REFERENCE, ANCHOR):
        ratings = _ratings_of(condition, kept, clips, key)
        cells = [condition]
        for scale in SCALES:
            cells.append(_estimate(bootstrap_interval(ratings[scale], seed=seed)))
        cells += _proxy_cells(key["proxies"].get(condition, {}))
        rows.append(cells)
    screening = "nobody screened (see --screen)"
    if screen:
        rule = f"rated the hidden reference below {SCREEN_BELOW} in more than {SCREEN_SHARE:.0%} of clips"
        screening = f"screened out ({rule}): {', '.join(screened_out) or 'nobody'}"
    counts = f"{len(kept)} listeners, {len(clips)} clips; {screening}"
    return "\n".join([_aligned(rows), counts, "Proxies are no ratings."])


def _headings() -> list[str]:
    headings = ["condition"]
    for scale in SCALES:
        headings.append(f"{scale} [95%]")
    for proxy in QUALITY:
        headings.append(proxy.heading)
    return headings


def _ratings_of(
    condition: str, listeners: Sequence[list[dict]], clips: Sequence[str], key: dict
) -> dict[str, np.ndarray]:
    """Ratings of one condition on each scale, [listeners, clips], NaN where a listener gave none."""
    ratings = {}
    for scale in SCALES:
        ratings[scale] = np.full((len(listeners), len(clips)), np.nan)
    for row, listener_ratings in enumerate(listeners):
        for rating in listener_ratings:
            stimulus = key["stimuli"][rating["stimulus"]]
            if stimulus["condition"] == condition:
                column = clips.index(stimulus["clip"])
                for scale in SCALES:
                    ratings[scale][row, column] = rating[scale]
    return ratings


def _estimate(estimate: dict) -> str:
    if not estimate["n"]:
        return "not rated"
    return f"{estimate['mean']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def _proxy_cells(means: dict[str, float | None]) -> list[str]:
    cells = []
    for proxy in QUALITY:
        mean = means.get(proxy.key)
        cells.append("" if mean is None else f"{mean:.3g}")
    return cells


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, each column as wide as its longest cell."""
    widths = []
    for column in zip(*rows, strict=True):
        widths.append(max(map(len, column)))
    lines = []
    for row in rows:
        padded = map(str.ljust, row, widths)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def fails_screening(ratings: Sequence[dict], key: dict) -> bool:
    """Whether a listener rates the quality of the hidden reference too low, too often."""
    references, missed = 0, 0
    for rating in ratings:
        if key["stimuli"][rating["stimulus"]]["condition"] == REFERENCE:
            references += 1
            missed += rating["quality"] < SCREEN_BELOW
    return missed > SCREEN_SHARE * references


def _read_answers(path: Path, key: dict) -> dict:
    """A listener's file, checked against the key."""
    answer = _read_object(path, "ratings that a listener exported", study=str, rater=str, ratings=list)
    if answer["study"] != key["study"]:
        raise UsageError(f"{path} belongs to another study than the key: aggregate each study with its own key")
    for rating in answer["ratings"]:
        if not _is_possible(rating, key):
            raise UsageError(f"{path} holds a rating that the study's page cannot have given: {json.dumps(rating)}")
    return answer


def _is_possible(rating: object, key: dict) -> bool:
    """Whether a rating is of a stimulus of the study and within its scales."""
    try:
        if rating["stimulus"] not in key["stimuli"]:
            return False
        for scale in SCALES:
            if not 0 <= rating[scale] <= 100:
                return False
    except (KeyError, TypeError):
        return False
    return True


def _read_object(path: Path, content: str, **fields: type) -> dict:
    """A JSON object with those fields, each of its type. content: what the file should be, for the error's sentence."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): give the JSON file of {content}") from error
    is_complete = isinstance(value, dict)
    for name, kind in fields.items():
        is_complete = is_complete and isinstance(value.get(name), kind)
    if not is_complete:
        raise UsageError(f"{path} is not the JSON file of {content}: that is an object with {', '.join(fields)}")
    return value


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("listening", __doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="runs to compare, such as results/lmac/1234")
    parser.add_argument("--clips", type=int, default=20, help="how many clips to rate")
    parser.add_argument("--seed", type=int, default=1234, help="draws the clips, their ids and orders")
    parser.add_argument("--out", type=Path, default=Path("study.html"), help="the page; its key goes beside it")
    parser.add_argument("--aggregate", type=Path, nargs="+", metavar="RATINGS", help="listeners' files to average")
    parser.add_argument("--key", type=Path, help="the study's key, for --aggregate")
    parser.add_argument("--screen", action="store_true", help="leave out listeners who miss the hidden reference")
    options = parser.parse_args(arguments)
    if options.aggregate:
        if options.key is None:
            raise UsageError("--aggregate needs --key, the file that was written beside the study's page")
        key = _read_object(options.key, "a study's key", study=str, stimuli=dict, proxies=dict)
        print(aggregate(options.aggregate, key, options.screen))
        return
    page, key = build_study(options.runs, options.clips, options.seed)
    path = options.out.with_suffix(".key.json")
    write_atomically(options.out, page)
    write_atomically(path, (json.dumps(key, indent=1) + "\n").encode())
    print(f"page for listeners: {options.out} ({len(page) / 1e6:.1f} MB)\nkey, not to be sent: {path}")


if __name__ == "__main__":
    entry(main)
