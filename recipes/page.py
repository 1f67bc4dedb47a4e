"""report.html: one self-contained page with the scores, the pictures and players for the sounds."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import soundfile

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #8884; }
article { border-top: 1px solid #8886; padding: .8rem 0; } img { max-width: 100%; height: auto; background: #fff; }
audio { width: 15rem; max-width: 100%; vertical-align: middle; } label { margin-right: 1rem; display: inline-block; }
.wrong { color: #c33; }
"""


@dataclass(frozen=True)
class Sound:
    """A named sound for a player: float waveform [N] and its rate in Hz."""

    name: str
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Card:
    """One explained clip: heading, a line of facts, a PNG picture and sounds. `wrong` marks a misclassified clip."""

    heading: str
    facts: str
    picture: bytes
    sounds: Sequence[Sound]
    wrong: bool = False


def render_page(title: str, facts: dict, metrics: dict, plots: Sequence[bytes], cards: Sequence[Card]) -> bytes:
    """The page as UTF-8. Every string from outside is escaped; plots are SVG, drawn by this project."""
    body = [f"<h1>{escape(title)}</h1>", _table(facts), "<h2>Scores</h2>", _table(metrics)]
    body += [f"<figure>{_image(plot, 'svg+xml', 'trade-off between FID-I and FA')}</figure>" for plot in plots]
    body.append("<h2>Explained clips</h2>")
    body += [_card(card) for card in cards]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    page = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n'
    return (page + "\n".join(body) + "\n</body></html>\n").encode()


def _table(rows: dict) -> str:
    cells = (f"<tr><th>{escape(str(key))}</th><td>{escape(_text(value))}</td></tr>" for key, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _card(card: Card) -> str:
    players = "".join(
        f'<label>{escape(sound.name)} <audio controls preload="none" src="{_audio(sound)}"></audio></label>'
        for sound in card.sounds
    )
    css = ' class="wrong"' if card.wrong else ""
    return (
        f"<article><h3{css}>{escape(card.heading)}</h3><p>{escape(card.facts)}</p>"
        f"{_image(card.picture, 'png', card.heading)}<p>{players}</p></article>"
    )


def _image(data: bytes, kind: str, description: str) -> str:
    return f'<img alt="{escape(description)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _audio(sound: Sound) -> str:
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(sound.waveform, -1, 1), sound.sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(stream.getvalue()).decode()}"
