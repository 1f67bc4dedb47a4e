"""report.html: one self-contained page with scores, plots, and every explained clip to see and hear."""

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recipes.data.audio import to_int16
from recipes.scoring.scores import heading, sentence

LOSSLESS_CARDS = 40
"""Up to so many clips a page holds FLAC; beyond, MP3, at about a third of the size. media/ has the WAVs."""


@dataclass(frozen=True)
class Sound:
    """A named sound for a player: float waveform [N], its rate in Hz, and the part of the picture that it is."""

    name: str
    waveform: np.ndarray
    sample_rate: int
    part: str = "input"


@dataclass(frozen=True)
class Card:
    """One explained clip. `label` is None where the true class is unknown.

    probabilities: class name -> probability on (input, relevant, residual). scores: by name, NaN where undefined.
    picture, mask: WebP images of the spectrogram and of its mask over `seconds` and 0 .. `top_khz`.
    """

    title: str
    prediction: str
    label: str | None
    probabilities: dict[str, tuple[float, float, float]]
    scores: dict[str, float]
    picture: bytes
    mask: bytes
    seconds: float
    top_khz: float
    sounds: Sequence[Sound]

    @property
    def wrong(self) -> bool:
        return self.label not in (None, self.prediction)


@dataclass(frozen=True)
class Rival:
    """A run on the same classifier and clips, for the leaderboard: its name, averages, and whether it is this run."""

    name: str
    metrics: dict[str, float | None]
    this: bool


@dataclass(frozen=True)
class Confusion:
    """How often (true, predicted) class indices met on all test clips, and the names behind them."""

    counts: Counter
    names: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """What a report shows: facts and scores by name, an SVG plot, rivals, confusion, the mixture's card, the clips.

    pages: names of the pages that a long sound has, this one among them.
    """

    title: str
    facts: dict
    cards: Sequence[Card]
    scores: dict[str, float] = field(default_factory=dict)
    plot: bytes | None = None
    rivals: Sequence[Rival] = ()
    confusion: Confusion | None = None
    mixture: Card | None = None
    pages: Sequence[str] = ()

    @property
    def classes(self) -> list[str]:
        """Every class that is true or predicted on some card."""
        return sorted({name for card in self.cards for name in (card.label, card.prediction) if name})


def render_page(page: Page, lossless: bool | None = None) -> bytes:
    """The page as UTF-8, nothing outside it needed. Every string is escaped. lossless: FLAC; None: for a few cards."""
    if lossless is None:
        lossless = len(page.cards) <= LOSSLESS_CARDS
    return render("report.html", page=page, lossless=lossless).encode()


def render_confusion(confusion: Confusion) -> str:
    """The confusion matrix as an SVG: rows are true classes, colour the share of the row's clips."""
    totals = Counter()
    for (true, _), count in confusion.counts.items():
        totals[true] += count
    return render("confusion.svg", names=confusion.names, counts=confusion.counts, totals=totals)


def render(template: str, **values: object) -> str:
    """A template of recipes/assets, filled in; what it includes is inlined."""
    return _templates.get_template(template).render(**values)


def encode_sound(sound: Sound, lossless: bool = True) -> str:
    """The sound as a data URI: 16-bit FLAC, or MP3 at its encoder's default quality. Clipped at full scale."""
    kind, format, subtype = ("flac", "FLAC", "PCM_16") if lossless else ("mpeg", "MP3", "MPEG_LAYER_III")
    stream = io.BytesIO()
    soundfile.write(stream, to_int16(sound.waveform), sound.sample_rate, format=format, subtype=subtype)
    return _data(stream.getvalue(), f"audio/{kind}")


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _short(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "undefined"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(scores: dict[str, float]) -> dict[str, float | None]:
    """The scores for JSON, which has no NaN: None where undefined."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _ticks(end: float) -> list[float]:
    """About five round numbers from 0 to `end`."""
    step = 10 ** math.floor(math.log10(end / 4))
    step *= max(factor for factor in (1, 2, 5) if factor * step <= end / 4)
    return [round(step * k, 6) for k in range(math.floor(end / step + 1e-6) + 1)]


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("assets")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"short": _short, "finite": finite, "data": _data, "ticks": _ticks, "sound": encode_sound}
_templates.filters |= {"heading": heading, "sentence": sentence}
_templates.filters |= {"confusion": render_confusion}
