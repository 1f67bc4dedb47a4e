"""Self-contained HTML pages: every explained clip to see and hear, a table of all clips, scores and plots."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recipes.report.markdown import percent
from recipes.report.media import data_uri, encode_sound
from recipes.scoring.scores import heading, sentence
from recipes.scoring.verdict import VERDICTS, Verdict

if TYPE_CHECKING:
    from recipes.report.cards import Card

LOSSLESS_VIEWS = 40
"""Up to so many explanations a page holds FLAC; beyond, MP3, at about a sixth of the size. media/ has the WAVs."""


@dataclass(frozen=True)
class Rival:
    """A run on the same classifier and clips: its name, averages, and whether it is this run."""

    name: str
    metrics: dict[str, float | None]
    this: bool


@dataclass(frozen=True)
class Confusion:
    """How often (true, predicted) class indices met on all test clips, and the names behind them."""

    counts: Counter
    names: tuple[str, ...]

    @property
    def totals(self) -> Counter:
        """The number of clips of every true class."""
        totals = Counter()
        for (true, _), count in self.counts.items():
            totals[true] += count
        return totals

    def most_confused(self, limit: int) -> list[tuple[tuple[str, str], int]]:
        """The most frequent wrong (true, predicted) pairs by name, with their counts."""
        pairs = []
        for (true, predicted), count in self.counts.most_common():
            if true != predicted:
                pairs.append(((self.names[true], self.names[predicted]), count))
        return pairs[:limit]


@dataclass(frozen=True)
class Column:
    """A column of the table of clips. kind: "clip", "text", "verdict" or "number"."""

    key: str
    heading: str
    kind: str
    sentence: str = ""


@dataclass(frozen=True)
class Row:
    """A clip in the table. verdicts: keys of all its verdicts. values: by the columns' keys, None where undefined."""

    id: str
    label: str
    prediction: str
    verdicts: Sequence[str]
    values: Mapping[str, object]


@dataclass(frozen=True)
class ClipTableView:
    """The table of all clips."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    cards: Sequence[str] = ()

    @property
    def numbers(self) -> list[Column]:
        """The columns that clips can be ordered and filtered by."""
        return [column for column in self.columns if column.kind == "number"]

    @property
    def content(self) -> dict:
        """What the page's script reads."""
        rows = []
        for row in self.rows:
            card = f"clip-{anchor(row.id)}" if row.id in self.cards else None
            rows.append(asdict(row) | {"wrong": row.label != row.prediction, "card": card})
        verdicts = {}
        for verdict in VERDICTS:
            verdicts[verdict.key] = {"symbol": verdict.symbol, "label": verdict.label}
        return {"columns": [asdict(column) for column in self.columns], "rows": rows, "verdicts": verdicts}


@dataclass(frozen=True)
class Plot:
    """A figure below the clips."""

    title: str
    description: str
    svg: bytes


@dataclass(frozen=True)
class Page:
    """What a page shows.

    summary: sentences below the title. choice: how the cards' clips were chosen. table: all clips. wide: the cards take
    the page's whole width, because several views stand side by side. pages: names of the pages that a long sound has,
    this one among them.
    """

    title: str
    facts: Mapping[str, object]
    cards: Sequence["Card"]
    summary: Sequence[str] = ()
    choice: str = ""
    table: ClipTableView | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    rivals: Sequence[Rival] = ()
    confusion: Confusion | None = None
    mixture: "Card | None" = None
    wide: bool = False
    pages: Sequence[str] = ()

    @property
    def classes(self) -> list[str]:
        """Every class that is true or predicted for some clip."""
        names = set()
        for row in self.table.rows if self.table else ():
            names |= {row.label, row.prediction}
        return sorted(names)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts to explain and to filter by; none on a page without explanations."""
        return VERDICTS if self.cards and self.cards[0].views else ()


def render_page(page: Page, lossless: bool | None = None) -> bytes:
    """The page as UTF-8, nothing outside it needed. Every string is escaped. lossless: FLAC; None: for a few."""
    if lossless is None:
        lossless = sum(len(card.views) for card in page.cards) <= LOSSLESS_VIEWS
    colours = np.round(255 * matplotlib.colormaps["magma"](np.arange(256))[:, :3]).astype(int).tolist()
    return render("report.html", page=page, colours=colours, lossless=lossless).encode()


def render_confusion(confusion: Confusion) -> str:
    """The confusion matrix as an SVG: rows are true classes, colour the share of the row's clips."""
    return render("confusion.svg", names=confusion.names, counts=confusion.counts, totals=confusion.totals)


def render_confusion_table(confusion: Confusion) -> str:
    """The confusion matrix as an HTML table whose cells filter the page's clips."""
    return render("confusion_table.html", names=confusion.names, counts=confusion.counts, totals=confusion.totals)


def render(template: str, **values: object) -> str:
    """A template of recipes/report/assets, filled in; what it includes is inlined."""
    return _templates.get_template(template).render(**values)


def anchor(name: str) -> str:
    """A clip's id as the id of an element: characters that an id may not hold become their numbers."""
    return re.sub(r"[^\w.-]", lambda character: f"_{ord(character[0]):x}_", name)


def finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """The scores for JSON, which has no NaN: None where undefined."""
    values: dict[str, float | None] = {}
    for name, value in scores.items():
        values[name] = value if math.isfinite(value) else None
    return values


def _short(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "undefined"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _webp(picture: bytes) -> str:
    return data_uri(picture, "image/webp")


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("assets")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "anchor": anchor,
    "confusion_table": render_confusion_table,
    "data": data_uri,
    "heading": heading,
    "percent": percent,
    "sentence": sentence,
    "short": _short,
    "sound": encode_sound,
    "webp": _webp,
}
