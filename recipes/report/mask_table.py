"""Masks of fixed areas in numbers: means with intervals, differences to the controls, the page's tables and picture."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure

from recipes.report.markdown import markdown_table, short_number
from recipes.runs.mask_scores import MaskScores
from recipes.scoring.fixed_area import EQUAL_ENERGY, FAITHFULNESS, HEADLINE, OF_MAP, REMOVALS, Setting
from recipes.scoring.scores import SCORES
from recipes.scoring.statistics import bootstrap_interval, holm, sign_flip_test

REFERENCES = ("loudest_bins", "loudest_patches")
"""The controls that every method is held against."""
CONTROLS = (*REFERENCES, "random_patches", "constant")
"""What `recipes.masks` scores without being asked."""
COMPARED = ("fid_i", "fa", "ap", "pointing")
AVERAGED = (*FAITHFULNESS, *OF_MAP, "iou", *EQUAL_ENERGY)
SIGNIFICANT = 0.05
FACTS = ("classifier", "method", "clips", "seed", "epochs", "cpu_minutes", "seconds_per_clip", "folds", "commit")
HEADLINE_SETTING = Setting(HEADLINE, "silence")


def summary_rows(methods: Sequence[MaskScores]) -> list[dict]:
    """A row for every method, kind of clips and setting, as masks.json holds them.

    Beside the means: `interval` (95 %, bootstrap over recordings) by score, and `against`, by control and score the
    difference of the means and its p-value (sign flips over recordings, corrected by Holm's method over the methods).
    """
    rows = []
    for scores in methods:
        for setting in scores.columns:
            rows.append(_summary_row(scores, setting))
    for reference in REFERENCES:
        _add_differences(rows, methods, reference)
    return rows


def _summary_row(scores: MaskScores, setting: Setting) -> dict:
    facts = asdict(scores.facts)
    row = {}
    for name in FACTS:
        row[name] = facts[name]
    row |= asdict(setting) | {"n": len(scores.ids), "interval": {}, "against": {}}
    for score in AVERAGED:
        values = scores.values(setting, score)
        if values is None or np.isnan(values).all():
            row[score] = None
            continue
        interval = bootstrap_interval(values, scores.recordings)
        row[score] = round(interval["mean"], 4)
        row["interval"][score] = [round(interval["low"], 4), round(interval["high"], 4)]
        if score in OF_MAP:
            row["n_known"] = interval["n"]
    return row


def _add_differences(rows: Sequence[dict], methods: Sequence[MaskScores], reference: str) -> None:
    """Fill `against` of every method's rows where the reference was scored on the same clips at the same setting."""
    row_of = {}
    for row in rows:
        row_of[row["method"], row["clips"], row["area"], row["removal"]] = row
    for control in methods:
        if control.facts.method != reference:
            continue
        rivals = []
        for scores in methods:
            if scores.facts.clips == control.facts.clips and not scores.facts.is_control:
                rivals.append(scores)
        for setting in control.columns:
            for score in COMPARED:
                for name, difference in _differences(control, rivals, setting, score).items():
                    row = row_of[name, control.facts.clips, setting.area, setting.removal]
                    row["against"].setdefault(reference, {})[score] = difference


def _differences(control: MaskScores, rivals: Sequence[MaskScores], setting: Setting, score: str) -> dict[str, dict]:
    """By method, the difference of its mean to the control's, and the p-value; empty where nobody has the score."""
    of_control = control.values(setting, score)
    names, columns = [], []
    for scores in rivals:
        if setting in scores.columns and of_control is not None:
            difference = scores.values(setting, score) - of_control
            if not np.isnan(difference).all():
                names.append(scores.facts.method)
                columns.append(difference)
    if not names:
        return {}
    p_values = holm(sign_flip_test(np.stack(columns, axis=1), control.recordings))
    differences = {}
    for name, column, p_value in zip(names, columns, p_values, strict=True):
        differences[name] = {"difference": round(float(np.nanmean(column)), 4), "p": round(float(p_value), 5)}
    return differences


def page_tables(rows: Sequence[dict]) -> str:
    """The tables of docs/masks.md: for each kind of clips the headline, then the areas, then the removals."""
    parts = []
    for clips, shown in _grouped(rows, "clips").items():
        count = shown[0]["n"]
        parts.append(f"## {shown[0]['classifier']}, {clips.replace('_', ', ')}")
        parts.append(f"{count} clips, masks of {HEADLINE:.0%} of the plane, silence in the rest.")
        parts.append(_headline_table(shown))
        parts.append("FID-I / FA at every area, under silence.")
        parts.append(_area_table(shown))
        parts.append(f"FID-I / FA at {HEADLINE:.0%} by what takes the place of what is removed.")
        parts.append(_removal_table(shown))
    return "\n\n".join(parts)


def _grouped(rows: Sequence[dict], key: str) -> dict[str, list[dict]]:
    """Rows by their value of a key, in the order in which the values first occur."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _at(rows: Sequence[dict], setting: Setting) -> list[dict]:
    return [row for row in rows if (row["area"], row["removal"]) == (setting.area, setting.removal)]


def _headline_table(rows: Sequence[dict]) -> str:
    headline = _at(rows, HEADLINE_SETTING)
    present, headings = [], []
    for score in (*FAITHFULNESS, *OF_MAP, "iou"):
        if _is_measured(score, headline):
            present.append(score)
            headings.append(SCORES[score].heading)
    cells = []
    for row in headline:
        numbers = [_starred(row, score) for score in present]
        energy = " / ".join(short_number(row[score]) for score in EQUAL_ENERGY)
        cells.append([row["method"], *numbers, energy, short_number(row["seconds_per_clip"])])
    return markdown_table(["method", *headings, "equal energy: FID-I / FA", "CPU s / clip"], cells)


def _is_measured(score: str, rows: Sequence[dict]) -> bool:
    """Whether any row has a mean of the score."""
    return any(row[score] is not None for row in rows)


def _starred(row: dict, score: str) -> str:
    """A mean with its interval; `*` where it is significantly above every reference, `†` where below every one."""
    if row[score] is None:
        return ""
    text = short_number(row[score])
    if score in row["interval"]:
        low, high = row["interval"][score]
        text += f" [{short_number(low)}, {short_number(high)}]"
    significant = []  # differences to the references; one that is not significant settles the matter
    for differences in row["against"].values():
        if score in differences:
            if differences[score]["p"] >= SIGNIFICANT:
                return text
            significant.append(differences[score]["difference"])
    if len(significant) < len(REFERENCES):
        return text
    if min(significant) > 0:
        return text + " *"
    return text + " †" if max(significant) < 0 else text


def _area_table(rows: Sequence[dict]) -> str:
    settings = {}
    for area in sorted(_grouped(rows, "area")):
        settings[f"{area:.0%}"] = Setting(area, "silence")
    return _pair_table(rows, settings)


def _removal_table(rows: Sequence[dict]) -> str:
    settings = {}
    for removal in REMOVALS:
        settings[removal.replace("_", " ")] = Setting(HEADLINE, removal)
    return _pair_table(rows, settings)


def _pair_table(rows: Sequence[dict], settings: dict[str, Setting]) -> str:
    """A column of FID-I / FA for each named setting."""
    cells = []
    for method, rows_of_method in _grouped(rows, "method").items():
        line = [method]
        for setting in settings.values():
            at_setting = _at(rows_of_method, setting)
            line.append(_pair(at_setting[0]) if at_setting else "")
        cells.append(line)
    return markdown_table(["method", *settings], cells)


def _pair(row: dict) -> str:
    return f"{short_number(row['fid_i'])} / {short_number(row['fa'])}"


def trade_figure(rows: Sequence[dict], controls: Sequence[str]) -> Figure:
    """FID-I and FA of masks on mixtures against AP: methods as points, controls as lines.

    Methods whose names differ after a comma only, such as "extremal, 10 steps", are joined to a front.
    """
    shown, controls_shown = [], []
    for row in _at(rows, HEADLINE_SETTING):
        if row["ap"] is not None:
            shown.append(row)
            if row["method"] in controls:
                controls_shown.append(row)
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("fid_i", "fa"), strict=True):
        _draw_controls(axes, controls_shown, score)
        for number, (name, points) in enumerate(_fronts(shown, controls).items()):
            line = "-o" if len(points) > 1 else "o"
            ap, values = [], []
            for row in points:
                ap.append(row["ap"])
                values.append(row[score])
            axes.plot(ap, values, line, color=f"C{number % 10}", markersize=5, label=name)
        axes.set(xlabel="AP (does the map rank the true source first?)", ylabel=SCORES[score].label)
        axes.set_title(f"{SCORES[score].label} of masks of {HEADLINE:.0%}, mixtures at 0 dB", fontsize=10)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def _fronts(rows: Sequence[dict], controls: Sequence[str]) -> dict[str, list[dict]]:
    """The methods that are no controls, by their name up to a comma; those of one name by rising AP."""
    fronts: dict[str, list[dict]] = {}
    for row in rows:
        if row["method"] not in controls:
            fronts.setdefault(row["method"].partition(",")[0], []).append(row)
    for points in fronts.values():
        points.sort(key=lambda row: row["ap"])
    return fronts


def _draw_controls(axes, controls: Sequence[dict], score: str) -> None:
    """A level line for every control, with its name at the left end."""
    for row in controls:
        axes.axhline(row[score], color="grey", linewidth=0.8, linestyle="--")
        axes.annotate(
            row["method"].replace("_", " "),
            (0.01, row[score]),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            color="grey",
            va="bottom",
        )
