"""What Python gets about a sound: its classes and the part behind one of them, to use, to see, to hear and to keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recipes.data.signals import Fault
from recipes.scoring.answer import Answer, ClassAnswer
from recipes.scoring.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ClassifiedSound:
    """A sound's most probable class, with the probabilities of all, averaged over the sound's windows."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedSound(ClassifiedSound):
    """A classified sound and the part of it behind one class. A notebook shows it with a picture and players.

    target: the class that is explained. rate: Hz. hop: samples from frame to frame. method: what explained it. answer:
    the answer in numbers, window by window. explanation: the arrays. faults: what deceives about the sound.
    """

    target: str
    rate: int
    hop: int
    method: str
    answer: Answer
    explanation: Explanation
    faults: tuple[Fault, ...] = ()

    @property
    def waveform(self) -> np.ndarray:
        """float32 [N] mono at `rate` Hz, absolute peak 1."""
        return self.explanation.sound

    @property
    def relevant(self) -> np.ndarray:
        """float32 [N], what speaks for `target`."""
        return self.explanation.relevant

    @property
    def residual(self) -> np.ndarray:
        """float32 [N], the rest."""
        return self.explanation.residual

    @property
    def mask(self) -> np.ndarray:
        """[T, F] in [0, 1], frames by frequency bins: what is kept."""
        return self.explanation.mask

    @property
    def log_magnitude(self) -> np.ndarray:
        """[T, F] log1p of the linear STFT magnitude of `waveform`."""
        return self.explanation.log_magnitude

    @property
    def times(self) -> np.ndarray:
        """[T] centres of the mask's frames, in s."""
        return np.arange(len(self.mask)) * self.hop / self.rate

    @property
    def frequencies(self) -> np.ndarray:
        """[F] of the mask's bins, in Hz."""
        return np.linspace(0, self.rate / 2, self.mask.shape[1])

    @property
    def relevant_probability(self) -> float:
        """Of `target`, on the relevant part alone."""
        return self._share(self.target).relevant

    @property
    def residual_probability(self) -> float:
        """Of `target`, without the relevant part."""
        return self._share(self.target).residual

    def _share(self, name: str) -> ClassAnswer:
        return next(shares for shares in self.classes if shares.name == name)

    @property
    def classes(self) -> list[ClassAnswer]:
        """The predicted and the explained class and all of 0.1 or more, with what the two parts do to each."""
        return self.answer.classes()

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.rate

    def __repr__(self) -> str:
        heard = ", ".join(f"{shares.name} {shares.input:.2f}" for shares in self.classes)
        frames, bins = self.mask.shape
        return (
            f"<ExplainedSound of {self.seconds:.2f} s: {heard}; {self.method} explains {self.target}, "
            f"mask {frames} x {bins} keeps {self.mask.mean():.2f}>"
        )

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the spectrogram with the mask's outline. axes: matplotlib's to draw into; None: the current ones."""
        from recipes.report.figures import Panel, draw_panel

        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.gca()
        panel = Panel(f"{self.target} by {self.method}", self.log_magnitude, self.seconds, self.mask)
        draw_panel(axes, panel, float(self.log_magnitude.max()), self.rate)
        axes.set_ylabel("frequency [kHz]")
        return axes

    def save(self, folder: str | Path) -> Path:
        """Leave the sounds as WAV, the picture, report.html, explanation.json and masks.npz in a folder; returns it."""
        from recipes.report.sound_report import SoundFacts, SoundReport

        clauses = tuple(fault.clause for fault in self.faults)
        title = f"{self.target} by {self.method}"
        facts = SoundFacts(title, {}, len(self.waveform), self.method, "from Python", faults=clauses)
        SoundReport(Path(folder), facts, self.answer, self.hop, keep_masks=True).write([self.explanation])
        return Path(folder)

    def _repr_html_(self) -> str:
        """The sound in a notebook: classes, picture and players."""
        from recipes.report.cards import PARTS
        from recipes.report.figures import encode, explanation_figure
        from recipes.report.media import Sound, data_uri, encode_sound
        from recipes.report.page import render

        picture = encode(explanation_figure(self.explanation, self.rate), "png")
        players = {}
        for name, attribute in PARTS.items():
            players[name] = encode_sound(Sound(name, getattr(self.explanation, attribute), self.rate))
        return render("sound.html", sound=self, picture=data_uri(picture, "image/png"), players=players)


def named_shares(posterior: np.ndarray, names: Sequence[str]) -> dict:
    """The fields of a ClassifiedSound from its posterior [K]."""
    best = int(posterior.argmax())
    shares = {name: float(share) for name, share in zip(names, posterior, strict=True)}
    return {"label": names[best], "probability": float(posterior[best]), "probabilities": shares}
