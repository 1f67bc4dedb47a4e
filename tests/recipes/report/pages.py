"""Small pages for the tests of pages: cards of two seconds with a tone, a picture and a mask."""

from collections import Counter

import numpy as np

from recipes.report.cards import Card, View
from recipes.report.media import Sound, importance_picture, mask_picture
from recipes.report.page import ClipTableView, Column, Confusion, Page, Plot, Rival, Row, finite
from recipes.scoring.verdict import HOLDS, Verdict

RATE = 16000
SECONDS = 2.0
PICTURE = mask_picture(np.random.default_rng(0).random((43, 33)))
LEFT_HALF = mask_picture((np.arange(43)[:, None] < 21) * np.ones((43, 33)))
RISING = importance_picture(np.arange(43)[:, None] * np.ones((43, 33)))


def tone(part: str, gain: float = 0.5) -> Sound:
    return Sound(part, gain * np.sin(np.arange(int(SECONDS * RATE)) / 10), RATE, part)


def view(name: str = "", explained: str = "dog", verdict: Verdict = HOLDS, **scores: float) -> View:
    """An explanation that keeps the left half of its picture; the residual is 40 dB quieter than the input."""
    return View(
        name=name,
        explained=explained,
        verdict=verdict,
        answer=f"{explained}, 75 %. Without it: {explained} 25 %.",
        probabilities={explained: (0.75, 0.5, 0.25)},
        scores=scores or {"fa": 0.5},
        mask=LEFT_HALF,
        importance=RISING,
        sounds=(tone("relevant"), tone("residual", 0.005)),
    )


def card(title: str = "clip", prediction: str = "dog", label: str | None = "dog", views=None, **changes) -> Card:
    fields = {
        "reason": "drawn at random",
        "seconds": SECONDS,
        "top_khz": 8.0,
        "picture": PICTURE,
        "sounds": (tone("input"),),
        "views": views or [view("", prediction)],
    }
    return Card(title=title, prediction=prediction, label=label, **fields | changes)


def table_of(cards: list[Card], **scores: list[float]) -> ClipTableView:
    """The table of the cards' clips and of one more, which has no card."""
    columns = [
        Column("clip", "clip", "clip"),
        Column("label", "true", "text"),
        Column("prediction", "predicted", "text"),
    ]
    columns.append(Column("verdict", "verdict", "verdict"))
    columns += [Column(key, key.upper(), "number") for key in scores]
    clips = [(one.title, one.label, one.prediction, one.views[0].verdict.key) for one in cards]
    rows = []
    for number, (clip, label, prediction, verdict) in enumerate([*clips, ("without card", "cat", "cat", "fails")]):
        values = {"label": label, "prediction": prediction, "verdict": verdict}
        rows.append(
            Row(clip, label, prediction, [verdict], values | finite({key: scores[key][number] for key in scores}))
        )
    return ClipTableView(columns, rows, [one.title for one in cards])


def page_of(cards: list[Card], **scores: list[float]) -> Page:
    """A page with everything on it; the scores are those of the cards and of the clip without one."""
    return Page(
        title="tried",
        facts={"seed": 1},
        cards=cards,
        summary=["4 clips."],
        choice="All of them.",
        table=table_of(cards, **scores),
        scores={"fa": 0.2, "sps": float("nan")},
        plots=[Plot("Trade-off", "a plot", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
        rivals=[Rival("lmac/1", {"fa": 0.2}, True), Rival("piq/1", {"fa": None}, False)],
        confusion=Confusion(Counter({(0, 0): 1, (1, 0): 1, (1, 1): 1, (0, 2): 1}), ("dog", "cat", "owl")),
        mixture=card("two"),
    )
