"""What is left about one explained sound: WAVs, pictures, a page or several, explanation.json and, on request, masks.

A sound is written as its windows come, in memory that does not grow with its length.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from models.staging import STAGED
from recipes.data.audio import to_int16
from recipes.report.cards import PARTS, Card, Clip, View, build_card, build_view
from recipes.report.figures import parts_figure, write_figure
from recipes.report.page import Page, render_page
from recipes.scoring.answer import Answer
from recipes.scoring.explanation import ExplainedWindow, Explanation, join_windows
from recipes.system.files import write_atomically

CARD_SECONDS = 60.0
"""A longer sound is shown in several cards, each a page of its own."""

FIGURE_FRAMES = 4000
"""Frames of the figure for papers; of more, every k-th is drawn."""


@dataclass(frozen=True)
class SoundFacts:
    """What is known about a sound before it is explained.

    title: of its page. question: what the answer is about (`recipes.runs.explainer.question`). num_samples: at the
    classifier's rate. method, classifier: for the head of the page. num_cards: in how many stretches it is shown.
    faults: what deceives about it, as clauses.
    """

    title: str
    question: dict
    num_samples: int
    method: str
    classifier: str
    num_cards: int = 1
    faults: tuple[str, ...] = ()


def no_views(explanation: Explanation) -> Sequence[View]:
    """No views beside the first."""
    return ()


@dataclass
class SoundReport:
    """Writes the folder of one sound.

    folder: where to. answer: what is said; it may still grow while the cards come. hop: samples from frame to frame.
    keep_masks: also leave masks.npz. more_views: from the explanation of a short sound to views of its other classes.
    """

    folder: Path
    facts: SoundFacts
    answer: Answer
    hop: int
    keep_masks: bool = False
    more_views: Callable[[Explanation], Sequence[View]] = no_views
    thinned: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    pages_written: int = 0
    seconds_written: float = 0.0

    def write(self, cards: Iterable[Explanation]) -> None:
        """Write everything, explanation.json last: where it is, the other files are whole.

        cards: the sound, a stretch of at most `CARD_SECONDS` after another (`stretches`).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in ("explanation.json", "masks.npz"):
            (self.folder / stale).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=STAGED) as staging:
            self._write_staged(cards, Path(staging))
        self._draw()
        document = {"file": self.facts.title, "question": self.facts.question, "faults": list(self.facts.faults)}
        document |= {"method": self.facts.method} | self.answer.document()
        write_atomically(self.folder / "explanation.json", (json.dumps(document, indent=2) + "\n").encode())

    def _write_staged(self, cards: Iterable[Explanation], staging: Path) -> None:
        """Write sounds, pages and masks while the cards come; each sound gets its name when it is whole."""
        with ExitStack() as stack:
            sinks = {name: stack.enter_context(self._open_wav(staging / f"{name}.wav")) for name in PARTS}
            masks = stack.enter_context((staging / "mask.f16").open("wb")) if self.keep_masks else None
            for group in cards:
                for name, attribute in PARTS.items():
                    sinks[name].write(to_int16(getattr(group, attribute)))
                if masks is not None:
                    masks.write(group.mask.astype(np.float16).tobytes())
                self.thinned.append(self._thin(group))
                self._write_page(group)
        for name in PARTS:
            (staging / f"{name}.wav").replace(self.folder / f"{name}.wav")
        if self.keep_masks:
            self._write_masks(staging)

    @property
    def page_names(self) -> list[str]:
        """report.html and, for a sound of several cards, report_2.html and so on: a card each."""
        names = ["report.html"]
        for number in range(2, self.facts.num_cards + 1):
            names.append(f"report_{number}.html")
        return names

    def _write_page(self, group: Explanation) -> None:
        """The page of the next card: a single one holds FLAC, several hold MP3, and the WAVs lie beside them."""
        facts, answer, names = self.facts, self.answer, self.page_names
        title = facts.title
        if len(names) > 1:
            end = self.seconds_written + len(group.sound) / answer.rate
            title += f", {_clock(self.seconds_written)} to {_clock(end)}"
            self.seconds_written = end
        about = {"method": facts.method, "classifier": facts.classifier, "explained class": answer.names[group.target]}
        if facts.faults:
            about["beware"] = "; ".join(facts.faults)
        card = self._card(title, group)
        page = Page(title, about, [card], pages=names)
        write_atomically(self.folder / names[self.pages_written], render_page(page, lossless=len(names) == 1))
        self.pages_written += 1

    def _card(self, title: str, group: Explanation) -> Card:
        """The card of a stretch; that of a whole sound also has a view of every other notable class."""
        names, rate = self.answer.names, self.answer.rate
        views = [build_view(names[group.target], group, names, rate)]
        if len(self.page_names) == 1:
            views += self.more_views(group)
        return build_card(Clip(title), views, group, names, rate, choose_view=True)

    def _open_wav(self, path: Path) -> soundfile.SoundFile:
        return soundfile.SoundFile(path, "w", self.answer.rate, 1, "PCM_16", format="WAV")

    def _thin(self, group: Explanation) -> tuple[np.ndarray, np.ndarray]:
        """Every k-th frame of the spectrogram and the mask, so that the whole sound's fit into one figure."""
        frames = self.facts.num_samples // self.hop + 1
        step = -(-frames // FIGURE_FRAMES)
        return group.log_magnitude[::step].copy(), group.mask[::step].copy()

    def _draw(self) -> None:
        """explanation.png and explanation.pdf."""
        magnitude, mask = (np.concatenate(parts) for parts in zip(*self.thinned, strict=True))
        figure = parts_figure(magnitude, mask, self.answer.seconds, self.answer.rate)
        write_figure(figure, self.folder / "explanation")

    def _write_masks(self, staging: Path) -> None:
        """masks.npz: the mask [T, F], its axes in seconds and Hz, the classes and their probabilities."""
        frames = self.facts.num_samples // self.hop + 1
        mask = np.memmap(staging / "mask.f16", np.float16, "r").reshape(frames, -1)
        np.savez_compressed(
            staging / "masks.npz",
            mask=mask,
            times=np.arange(frames) * self.hop / self.answer.rate,
            frequencies=np.linspace(0, self.answer.rate / 2, mask.shape[1]),
            classes=np.array(self.answer.names),
            probabilities=self.answer.mean(self.answer.probabilities),
            target=self.answer.names[self.answer.target],
        )
        (staging / "masks.npz").replace(self.folder / "masks.npz")


def windows_per_card(clip_seconds: float) -> int:
    """How many windows are shown together in one card."""
    return max(1, int(CARD_SECONDS / clip_seconds))


def stretches(windows: Iterable[ExplainedWindow], answer: Answer, clip_seconds: float) -> Iterator[Explanation]:
    """The windows of one card after another, as explanations; the answer takes in each window on the way."""
    count = windows_per_card(clip_seconds)
    waiting: list[ExplainedWindow] = []
    for window in windows:
        answer.add(window)
        waiting.append(window)
        if len(waiting) == count:
            yield join_windows(waiting, clip_seconds)
            waiting = []
    if waiting:
        yield join_windows(waiting, clip_seconds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
