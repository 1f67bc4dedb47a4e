"""A live page: drop a sound or record one, choose a method and a class, and see and hear what the classifier relied on.

python -m recipes.app --classifier=results/mobilenet/1234/classifier [--runs results/lmac/1234 results/l2i/1234]

Opens on http://127.0.0.1:7860, for this machine only; --host=0.0.0.0 lets others in. The methods are those that need no
training, and the trained interpreters of --runs. Sounds are limited in length and size, nothing of them is kept on disk
after the answer, and a file that cannot be read is told in a sentence. Needs Gradio: `pip install -e '.[app]'`.
"""

import html
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.data.audio import load_mono
from recipes.report.page import Page, render_page
from recipes.report.side_by_side import ComparedClip, comparison_card
from recipes.runs.ready import ReadyInterpreter, load_runs, untrained_interpreters
from recipes.runs.subject import Subject, load_subject
from recipes.scoring.explanation import explain
from recipes.system.entry import entry, tool_parser

logger = logging.getLogger(__name__)
PREDICTED = "the predicted class"
FRAME = '<iframe title="explanation" style="width:100%;height:{height}px;border:0" srcdoc="{page}"></iframe>'
FRAME_HEIGHT = 900


@dataclass
class Explainers:
    """What the live page asks: a classifier and its methods. One sound is answered at a time; others wait."""

    subject: Subject
    methods: Sequence[ReadyInterpreter]
    max_seconds: float
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def names(self) -> list[str]:
        return [method.name for method in self.methods]

    def answer(self, path: str | None, chosen: Sequence[str], target: str) -> bytes:
        """The page about one sound file. chosen: names of methods. target: a class, or `PREDICTED`.

        Raises UsageError for no file, a file that cannot be read or is too long, no method, and for a class that a
        method cannot explain.
        """
        if not path:
            raise UsageError("choose a sound file or record one")
        if not chosen:
            raise UsageError("choose at least one method")
        info = self.subject.info
        sound = _read_upload(Path(path), info.sample_rate)
        seconds = len(sound) / info.sample_rate
        if seconds > self.max_seconds:
            raise UsageError(
                f"the sound lasts {seconds:.0f} s and this page takes {self.max_seconds:.0f} s at most: shorten it, or "
                "use interpret.py --audio, which takes sounds of any length"
            )
        index = None if target == PREDICTED else info.class_names.index(target)
        explanations = {}
        with self.turn:
            for method in self.methods:
                if method.name in chosen:
                    explanations[method.name] = explain(
                        self.subject.classifier, method.interpreter, sound, info.clip_seconds, index
                    )
        title = Path(path).name
        card = comparison_card(ComparedClip(title, None, sound), explanations, self.subject)
        facts = {"classifier": self.subject.bundle.path, "methods": ", ".join(explanations)}
        return render_page(Page(title, facts, [card], wide=len(explanations) > 1))


def _read_upload(path: Path, sample_rate: int) -> np.ndarray:
    """A sound that somebody sent, [N]. Raises UsageError that names the file without the server's folder."""
    try:
        return load_mono(path, sample_rate)
    except UsageError as error:
        raise UsageError(str(error).replace(str(path), path.name)) from error


def build_app(explainers: Explainers, max_megabytes: int):
    """The Gradio page. Raises UsageError where Gradio is not installed."""
    try:
        import gradio
    except ImportError as error:
        raise UsageError("the live page needs Gradio: pip install -e '.[app]'") from error

    def respond(path: str | None, chosen: Sequence[str], target: str) -> str:
        try:
            page = explainers.answer(path, chosen, target).decode()
            return FRAME.format(height=FRAME_HEIGHT, page=html.escape(page))
        except UsageError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        finally:
            if path:
                Path(path).unlink(missing_ok=True)  # what was uploaded is gone with the answer

    with gradio.Blocks(title="Earwitness", delete_cache=(60, 60), analytics_enabled=False) as app:
        gradio.Markdown(f"# What does {explainers.subject.info.source['experiment']} listen to?")
        with gradio.Row():
            sound = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="sound", buttons=[])
            with gradio.Column():
                methods = gradio.CheckboxGroup(explainers.names, value=explainers.names[:1], label="methods")
                classes = [PREDICTED, *explainers.subject.info.class_names]
                target = gradio.Dropdown(classes, value=PREDICTED, label="explained class")
                button = gradio.Button("explain", variant="primary")
        answer = gradio.HTML(label="explanation")
        button.click(respond, [sound, methods, target], answer, api_name="explain")
    app.queue(max_size=20, default_concurrency_limit=4)
    app.max_file_size = max_megabytes * 1_000_000
    return app


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("app", __doc__)
    parser.add_argument(
        "--classifier", type=Path, required=True, help="bundle, such as results/mobilenet/1234/classifier"
    )
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="runs whose trained interpreters to offer")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on")
    parser.add_argument("--max_seconds", type=float, default=60, help="longest sound")
    parser.add_argument("--max_megabytes", type=int, default=20, help="largest file")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--trust", nargs="+", default=[], help="modules of your own that the bundles may build")
    options = parser.parse_args(arguments)
    if options.max_seconds <= 0 or options.max_megabytes < 1:
        raise UsageError("--max_seconds must be above 0 and --max_megabytes at least 1")
    subject = load_subject(options.classifier, options.device, options.trust)
    methods = untrained_interpreters(subject, options.device)
    if options.runs:
        methods += load_runs(options.runs, options.device, options.trust, subject)[1]
    explainers = Explainers(subject, methods, options.max_seconds)
    with tempfile.TemporaryDirectory(prefix="earwitness-app-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # gone when the server ends
        app = build_app(explainers, options.max_megabytes)
        app.launch(
            server_name=options.host,
            server_port=options.port,
            share=False,
            max_file_size=app.max_file_size,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
        print(f"live page: http://{options.host}:{options.port} (Ctrl-C ends it)", flush=True)
        app.block_thread()


if __name__ == "__main__":
    entry(main)
