"""The figure of `python -m recipes.figures`: a row a clip, a column a method, at the size of a paper's column."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.report.cards import mean_probabilities
from recipes.report.figures import Panel, draw_panel
from recipes.report.markdown import percent
from recipes.scoring.explanation import Explanation

ROW_SHARE = 0.75
"""Height of a panel, relative to its width."""
ROOM_INCHES = 0.55
"""For the time axis below the last row and the methods' names above the first one."""


@dataclass(frozen=True)
class PanelRow:
    """One clip: the class that is heard, with the true one where it is another, and its explanation by every method."""

    title: str
    explanations: Sequence[Explanation]


def comparison_figure(
    rows: Sequence[PanelRow], methods: Sequence[str], sample_rate: int, width: float, font_size: float
) -> Figure:
    """A column with the input, then one for every method with what it keeps, outlined.

    width: of the figure in inches. font_size: in points. Each panel of a method says how probable the predicted class
    is on the relevant part alone. Every row has its own colour scale.
    """
    columns = 1 + len(methods)
    height = len(rows) * ROW_SHARE * width / columns + ROOM_INCHES
    style = {"font.size": font_size, "axes.titlesize": font_size, "pdf.fonttype": 42}  # 42: fonts that journals accept
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(len(rows), columns, sharex="row", sharey=True, squeeze=False)
        for number, row in enumerate(rows):
            first, last = number == 0, number == len(rows) - 1
            _draw_row(grid[number], row, methods if first else [""] * len(methods), sample_rate)
            for axes in grid[number]:
                axes.set_xlabel("time [s]" if last else "")
    return figure


def _draw_row(cells: Sequence[Axes], row: PanelRow, names: Sequence[str], sample_rate: int) -> None:
    """The panels of one clip."""
    whole = row.explanations[0]
    seconds = len(whole.sound) / sample_rate
    top = float(whole.log_magnitude.max())
    share = percent(mean_probabilities(whole)[0][whole.target])
    draw_panel(cells[0], Panel(f"{row.title}, {share}", whole.log_magnitude, seconds), top, sample_rate)
    cells[0].set_ylabel("kHz")
    for axes, name, explanation in zip(cells[1:], names, row.explanations, strict=True):
        share = percent(mean_probabilities(explanation)[1][explanation.target])
        title = f"{name}\n{share}" if name else share
        kept = explanation.log_magnitude * explanation.mask
        draw_panel(axes, Panel(title, kept, seconds, explanation.mask), top, sample_rate)
