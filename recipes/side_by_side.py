"""One page on which several explainers stand side by side on the same clips.

python -m recipes.side_by_side results/grad_cam/1234 results/lmac/1234 --out=side_by_side.html [--clips=20]
python -m recipes.side_by_side results/grad_cam/1234 results/lmac/1234 --audio siren.wav rain.wav

Takes finished runs of `interpret.py` on one classifier. The clips are those that the runs explained (the inputs in
their media/ folders), or the files of --audio; every method explains all of them anew. The loudest-bins control is
always among the methods. Verdicts and scores are compared in a table. The page begins with wrong predictions, followed
by the clips on which the methods differ most.
"""

from pathlib import Path

from models.errors import UsageError
from recipes.data.audio import load_mono
from recipes.report.page import render_page
from recipes.report.side_by_side import ComparedClip, build_comparison, explained_clips
from recipes.runs.ready import load_runs, with_control
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("side_by_side", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders such as results/lmac/1234")
    parser.add_argument("--audio", nargs="+", type=Path, help="sound files to explain instead of the runs' clips")
    parser.add_argument("--clips", type=int, default=20, help="how many of the runs' clips to show, at most")
    parser.add_argument("--out", type=Path, default=Path("side_by_side.html"), help="the page")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--trust", nargs="+", default=[], help="modules of your own that the bundles may build")
    options = parser.parse_args(arguments)
    if options.clips < 1:
        raise UsageError(f"--clips={options.clips} must be at least 1")
    subject, ready = load_runs(options.runs, options.device, options.trust)
    methods = with_control(subject, ready, options.device)
    rate = subject.info.sample_rate
    if options.audio:
        clips = [ComparedClip(path.name, None, load_mono(path, rate)) for path in options.audio]
    else:
        clips = explained_clips(options.runs, options.clips, rate)
    title = f"{len(methods)} explanations of {subject.info.source['experiment']}, side by side"
    page = render_page(build_comparison(title, subject, methods, clips))
    write_atomically(options.out, page)
    print(f"side by side: {options.out} ({len(clips)} clips, {len(methods)} methods, {len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    entry(main)
