"""Let a trained classifier hear longer clips: it hears windows of them, and its answers are pooled.

    python -m recipes.lengthen results/mobilenet/1234 results/mobilenet_60s/1234 --clip_seconds=60
    python -m recipes.lengthen results/mobilenet/1234 results/mobilenet_60s/1234 --clip_seconds=60 --hop_seconds=2.5

The new run holds a bundle with the same weights. What explains the classifier then explains its whole clips, and a
method that was trained on the old bundle goes on with the new one. Windows are as long as the clips that the classifier
learned from, unless `--window_seconds` says otherwise.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from models.bundle import build_trusted, load_bundle, read_facts, save_bundle
from models.errors import UsageError
from models.windows import POOLINGS, Windows
from recipes.config.yaml_text import read_tree, tag_of, write_tree
from recipes.runs.places import is_bundle
from recipes.runs.required import require_classifier
from recipes.system.entry import entry, tool_parser


def lengthen(bundle: Path, run: Path, clip_seconds: float, windows: Windows, trust: Collection[str] = ()) -> Path:
    """Write a classifier's bundle for longer clips into a run's folder, and return its path.

    Raises UsageError for clips that one window holds, a classifier that takes no `windows`, and a folder that holds a
    classifier already.
    """
    if clip_seconds <= windows.seconds:
        raise UsageError(f"clips of {clip_seconds:g} s fit into a window of {windows.seconds:g} s: nothing to lengthen")
    folder = run / "classifier"
    if is_bundle(folder):
        raise UsageError(f"{folder} holds a classifier already: choose another run folder, or remove that one")
    kept = load_bundle(bundle, "classifier", trust)
    model_yaml = _with_windows(bundle / "model.yaml", asdict(windows))
    build_trusted(model_yaml, bundle / "model.yaml", trust)  # a class of one's own may take no windows
    source = kept.info.source | {"lengthened": {"from": str(bundle), "windows": asdict(windows)}}
    info = replace(kept.info, clip_seconds=clip_seconds, source=source, sha256={})
    return save_bundle(folder, kept.network, model_yaml, info)


def _with_windows(path: Path, windows: dict) -> str:
    """A bundle's YAML, in which the classifier hears windows."""
    document = read_tree(path.read_text(encoding="utf-8"), path)
    classifier = document["classifier"]
    if not isinstance(classifier, CommentedMap) or not tag_of(classifier).startswith("new:"):
        raise UsageError(f"{path} builds no classifier that could take windows")
    classifier["windows"] = CommentedMap(windows)
    if "windows" in document:
        document["windows"] = CommentedMap(windows)
    return write_tree(document)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("lengthen", __doc__)
    parser.add_argument("classifier", type=Path, help="a trained classifier's run, or its bundle")
    parser.add_argument("run", type=Path, help="folder of the new run, such as results/mobilenet_60s/1234")
    parser.add_argument("--clip_seconds", type=float, required=True, help="length of the clips to explain")
    parser.add_argument("--window_seconds", type=float, help="length of a window")
    parser.add_argument("--hop_seconds", type=float, help="from window to window; windows lie side by side without it")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean_probability", help="of the windows' answers")
    parser.add_argument("--trust", nargs="*", default=(), help="modules of your own that the bundle may build")
    options = parser.parse_args(arguments)
    bundle = options.classifier if is_bundle(options.classifier) else options.classifier / "classifier"
    require_classifier(bundle)
    seconds = options.window_seconds or read_facts(bundle, "classifier").clip_seconds
    windows = Windows(seconds, options.hop_seconds, options.pooling)
    folder = lengthen(bundle, options.run, options.clip_seconds, windows, options.trust)
    print(f"classifier: {folder}")
    print(f"next: python interpret.py hparams/grad_cam.yaml --classifier={folder} --audio=your_sound.wav")


if __name__ == "__main__":
    entry(main)
