"""Pictures: spectrograms with what was kept, the FID-I / FA trade-off, and the paper's two-sound mixture figure."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.scoring.explanation import Explanation
from recipes.scoring.scores import AVERAGED, heading
from recipes.system.files import write_atomically

styled = matplotlib.rc_context({"font.size": 8, "svg.hashsalt": "earwitness", "svg.fonttype": "none"})
"""Decorates what draws or saves: the style holds while it runs, and no other program's figures change."""


@dataclass(frozen=True)
class Panel:
    """One spectrogram to draw: title, [T, F] log1p magnitude, length in seconds, and mask [T, F] to outline."""

    title: str
    log_magnitude: np.ndarray
    seconds: float
    mask: np.ndarray | None = None


@styled
def spectrogram_figure(panels: Sequence[Panel], sample_rate: int) -> Figure:
    """Panels side by side on one colour scale; time in s along x, frequency in kHz along y."""
    figure = Figure(figsize=(2.6 * len(panels), 2.2), layout="constrained")
    top = max(float(panel.log_magnitude.max()) for panel in panels)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
        draw_panel(axes, panel, top, sample_rate)
    figure.axes[0].set_ylabel("frequency [kHz]")
    return figure


def draw_panel(axes: Axes, panel: Panel, top: float, sample_rate: int) -> None:
    """A spectrogram with its mask's outline, where it has two frames or more; colours go from 0 to `top` (log1p)."""
    extent = (0, panel.seconds, 0, sample_rate / 2000)
    axes.imshow(
        panel.log_magnitude.T,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        vmin=0,
        vmax=max(top, 1e-3),
    )
    if panel.mask is not None and len(panel.mask) > 1 and panel.mask.min() < 0.5 <= panel.mask.max():
        outline = axes.contour(panel.mask.T, [0.5], extent=extent, colors="cyan", linewidths=0.6)
        outline.set_rasterized(True)  # a speckled mask has too many edges for a vector file
    axes.set(title=panel.title, xlabel="time [s]")


def explanation_figure(explanation: Explanation, sample_rate: int) -> Figure:
    """Input with the mask's outline, relevant part and residual."""
    seconds = len(explanation.sound) / sample_rate
    return parts_figure(explanation.log_magnitude, explanation.mask, seconds, sample_rate)


@styled
def parts_figure(log_magnitude: np.ndarray, mask: np.ndarray, seconds: float, sample_rate: int) -> Figure:
    """Input with the mask's outline, relevant part and residual, of a log1p magnitude and a mask [T, F]."""
    return spectrogram_figure(
        [
            Panel("input, relevant part outlined", log_magnitude, seconds, mask),
            Panel("relevant", log_magnitude * mask, seconds),
            Panel("residual", log_magnitude * (1 - mask), seconds),
        ],
        sample_rate,
    )


@styled
def tradeoff_figure(sweep: Sequence[dict], title: str) -> Figure:
    """FID-I and FA against the quantile, as Figure 3 of the FocalNet paper."""
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    ordered = sorted(sweep, key=lambda row: row["quantile"])
    quantiles = _values(ordered, "quantile")
    for axes, name, label, colour in (
        (left, "fid_i", "FID-I", "tab:blue"),
        (right, "fa", "FA", "tab:orange"),
    ):
        axes.plot(quantiles, _values(ordered, name), "o-", color=colour, markersize=3)
        axes.set_ylabel(label, color=colour)
    left.set(xlabel="quantile q", title=title)
    left.grid(alpha=0.3)
    return figure


def _values(rows: Sequence[dict], key: str) -> list[float]:
    """One column of the rows."""
    return [row[key] for row in rows]


@styled
def lines_figure(rows: Sequence[dict], scores: Sequence[str], title: str) -> Figure:
    """A panel for every `axis` of the rows: each score against `value`."""
    panels: dict[str, list[dict]] = {}
    for row in rows:
        panels.setdefault(row["axis"], []).append(row)
    figure = Figure(figsize=(3.4 * len(panels), 2.8), layout="constrained")
    grid = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (name, shown) in zip(grid, panels.items(), strict=True):
        for score in scores:
            axes.plot(_values(shown, "value"), _values(shown, score), "o-", markersize=3, label=score)
        axes.set(xlabel=name)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def intervals_figure(group: dict) -> Figure:
    """A panel for every score of a group of the leaderboard: each method's mean and interval."""
    methods = group["methods"][::-1]  # the first on top
    scores = []
    for score in AVERAGED:
        if any(row["scores"].get(score, {}).get("n") for row in methods):
            scores.append(score)
    rows = -(-len(scores) // 4)
    figure = Figure(figsize=(11, rows * (0.7 + 0.2 * len(methods))), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, 4, sharey=True)).flat
    for axes in panels[len(scores) :]:
        axes.remove()
    for axes, score in zip(panels, scores, strict=False):
        _draw_intervals(axes, methods, score)
    return figure


def _draw_intervals(axes: Axes, methods: Sequence[dict], score: str) -> None:
    """The mean and interval of every method in which the score is defined, from the first method upwards."""
    heights, estimates = [], []
    for height, row in enumerate(methods):
        estimate = row["scores"].get(score, {})
        if estimate.get("n"):
            heights.append(height)
            estimates.append(estimate)
    axes.hlines(heights, _values(estimates, "low"), _values(estimates, "high"), color="tab:blue", linewidth=1)
    axes.plot(_values(estimates, "mean"), heights, "o", color="tab:blue", markersize=3)
    names = [row["name"] for row in methods]
    axes.set(title=heading(score), yticks=range(len(methods)), yticklabels=names)
    axes.set_ylim(-0.5, len(methods) - 0.5)
    axes.grid(alpha=0.3)


@styled
def encode(figure: Figure, kind: str, dpi: int = 110) -> bytes:
    """The figure as "png", or as "svg" or "pdf" with spectrograms as bitmaps inside; the same bytes every time."""
    stream = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()


def write_figure(figure: Figure, path: Path, kinds: Sequence[str] = ("png", "pdf")) -> None:
    """The figure as files of these kinds; path is without an ending."""
    for kind in kinds:
        write_atomically(path.with_name(f"{path.name}.{kind}"), encode(figure, kind))
        figure.set_layout_engine("none")  # it is laid out; to do so again for every kind takes as long as drawing
