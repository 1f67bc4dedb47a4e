"""Figures for papers: chosen clips by chosen methods, as one vector file.

python -m recipes.figures results/grad_cam/1234 results/lmac/1234 --clips 5-181766-A-10 5-182010-A-18 --out=figure.pdf
python -m recipes.figures results/grad_cam/1234 results/lmac/1234 --audio siren.wav --width=3.3 --out=figure.svg

A row for every clip and a column for every run, after a column with the input: the layout of L-MAC's figures (arXiv
2403.13086). What a method keeps is shown as it is and outlined, and the rest is left out. Above each panel stands the
method, in the first row, and the probability of the predicted class on the relevant part. Takes finished runs of
`interpret.py` on one classifier; the clips are those that the runs explained, or the files of --audio. The ending of
--out is the kind of file: pdf, svg or png. --width is that of the figure in inches; a column of IEEE's is 3.5.
"""

from pathlib import Path

from models.errors import UsageError
from recipes.data.audio import load_mono
from recipes.report.figures import encode
from recipes.report.paper_figure import PanelRow, comparison_figure
from recipes.report.side_by_side import ComparedClip, explained_clips
from recipes.runs.ready import load_runs
from recipes.scoring.explanation import explain
from recipes.system.entry import entry, tool_parser
from recipes.system.files import name_some, write_atomically

KINDS = ("pdf", "svg", "png")
ALL_CLIPS = 10_000
PAPER_DPI = 300


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("figures", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders such as results/lmac/1234")
    parser.add_argument("--clips", nargs="+", help="ids of clips that the runs explained")
    parser.add_argument("--audio", nargs="+", type=Path, help="sound files instead of the runs' clips")
    parser.add_argument("--out", type=Path, default=Path("figure.pdf"), help="the figure; its ending is its kind")
    parser.add_argument("--width", type=float, default=7.0, help="of the figure in inches")
    parser.add_argument("--font_size", type=float, default=7.0, help="in points")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--trust", nargs="+", default=[], help="modules of your own that the bundles may build")
    options = parser.parse_args(arguments)
    kind = options.out.suffix.removeprefix(".")
    if kind not in KINDS:
        raise UsageError(f"--out={options.out} must end in .{', .'.join(KINDS)}")
    if options.width <= 0 or options.font_size <= 0:
        raise UsageError(f"--width={options.width} and --font_size={options.font_size} must be above 0")
    if bool(options.clips) == bool(options.audio):
        raise UsageError("give either --clips, ids of clips that the runs explained, or --audio, sound files")
    subject, methods = load_runs(options.runs, options.device, options.trust)
    rate, names = subject.info.sample_rate, subject.info.class_names
    if options.audio:
        clips = [ComparedClip(path.name, None, load_mono(path, rate)) for path in options.audio]
    else:
        clips = _chosen(options.runs, options.clips, rate)
    rows = []
    for clip in clips:
        explanations = []
        for method in methods:
            explanations.append(explain(subject.classifier, method.interpreter, clip.sound, subject.info.clip_seconds))
        prediction = names[explanations[0].prediction]
        title = prediction if clip.label in (None, prediction) else f"{prediction} (is {clip.label})"
        rows.append(PanelRow(title, explanations))
    figure = comparison_figure(rows, [method.name for method in methods], rate, options.width, options.font_size)
    write_atomically(options.out, encode(figure, kind, PAPER_DPI))
    print(f"figure: {options.out}")


def _chosen(runs: list[Path], ids: list[str], rate: int) -> list[ComparedClip]:
    """The clips of these ids, in their order. Raises UsageError for an id that no run has explained."""
    explained = {clip.id: clip for clip in explained_clips(runs, ALL_CLIPS, rate)}
    missing = [clip for clip in ids if clip not in explained]
    if missing:
        known = name_some(sorted(explained), 8)
        raise UsageError(f"--clips={missing[0]} is explained by none of the runs; those that are: {known}")
    return [explained[clip] for clip in ids]


if __name__ == "__main__":
    entry(main)
