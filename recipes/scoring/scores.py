"""Every score that anything shows or compares: its name, its unit, which way is better, and what it says.

To add a score: describe it here, in the group that it belongs to, and return its per-clip values from
`recipes.scoring.batch.probability_scores` or `mask_scores` (or from a check, or from `recipes.scoring.quality`).
Tables, report and leaderboard read this registry and need no change.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

LARGER, SMALLER, NEITHER = 1, -1, 0
UNBOUNDED = (-math.inf, math.inf)
SHARE = (0.0, 1.0)
PERCENT = (0.0, 100.0)


@dataclass(frozen=True)
class Score:
    """One score.

    key: its name in files. label: its name for people. unit: "%", "dB" or "" for a number without one. direction:
    `LARGER` or `SMALLER` where that is better, `NEITHER` where a value only describes. sentence: what it says, for
    someone who meets it the first time. range: the smallest and the largest possible value.
    """

    key: str
    label: str
    unit: str
    direction: int
    sentence: str
    range: tuple[float, float]

    @property
    def heading(self) -> str:
        """Label and unit, as the head of a column."""
        return f"{self.label} {self.unit}".strip()


PREDICTION = (
    Score("acc", "ACC", "", LARGER, "share of clips that are classified correctly", SHARE),
    Score("map", "mAP", "", LARGER, "average precision of a class over the clips, mean over the classes", SHARE),
    Score("macro_auc", "AUC", "", LARGER, "area under a class's ROC curve, mean over the classes", SHARE),
    Score("macro_f1", "F1", "", LARGER, "F1 of a class at a probability of 0.5, mean over the classes", SHARE),
    Score("precision", "precision", "", LARGER, "share of explained classes that are among their clip's labels", SHARE),
    Score("probability", "probability", "", NEITHER, "probability of the predicted class on the whole input", SHARE),
)
"""About the classifier's answer, not about its explanation."""

EXPLANATION = (
    Score("fid_i", "FID-I", "", LARGER, "share of clips whose relevant part alone gets the predicted class", SHARE),
    Score("fa", "FA", "", LARGER, "probability that the predicted class loses without the relevant part", (-1.0, 1.0)),
    Score(
        "fa_raw_cosine",
        "FA, raw cosines",
        "",
        LARGER,
        "FA under a softmax of raw cosines, as in arXiv 2402.02754",
        (-1.0, 1.0),
    ),
    Score("ai", "AI", "%", LARGER, "clips whose relevant part is more convincing than the whole input", PERCENT),
    Score("ad", "AD", "%", SMALLER, "relative drop of the probability on the relevant part", PERCENT),
    Score("ag", "AG", "%", LARGER, "relative gain of the probability on the relevant part", PERCENT),
    Score("sps", "SPS", "", LARGER, "Gini index of the mask: 0 is an even mask, 1 a single point", SHARE),
    Score("comp", "COMP", "", SMALLER, "entropy of the mask in nats", (0.0, math.inf)),
    Score(
        "sps_relevant",
        "SPS, relevant part",
        "",
        LARGER,
        "Gini index of the relevant part's log magnitude, as the code of arXiv 2409.08655 has it",
        SHARE,
    ),
    Score(
        "comp_relevant",
        "COMP, relevant part",
        "",
        SMALLER,
        "entropy of the relevant part's log magnitude in nats, likewise",
        (0.0, math.inf),
    ),
    Score("kept", "kept", "", NEITHER, "fraction of the time-frequency plane that is kept", SHARE),
    Score(
        "split_db",
        "split error",
        "dB",
        SMALLER,
        "energy of relevant + residual - input, relative to the input: how far the parts are from adding up to it",
        (-100.0, math.inf),
    ),
)
"""What an explanation's two parts and its mask are worth."""

TRUTH = (
    Score("iou", "IoU", "", LARGER, "overlap of the mask with the bins where the true source is the louder one", SHARE),
    Score("ap", "AP", "", LARGER, "average precision of the ranking of bins for those of the true source", SHARE),
    Score("pointing", "pointing", "", LARGER, "share of clips whose top bin belongs to the true source", SHARE),
    Score("inside", "inside", "", LARGER, "share of the importance that lies on bins of the true source", SHARE),
    Score(
        "si_sdri",
        "SI-SDRi",
        "dB",
        LARGER,
        "how much closer the relevant sound is to the true source than the mixture is",
        UNBOUNDED,
    ),
)
"""Against the truth, on mixtures of two labelled clips."""

QUALITY = (
    Score(
        "si_sdr",
        "SI-SDR (proxy)",
        "dB",
        LARGER,
        "how close the relevant sound is to the input under the mask; lower where a network adds something",
        (-60.0, 60.0),
    ),
    Score(
        "log_kurtosis_ratio",
        "log kurtosis ratio (proxy)",
        "",
        SMALLER,
        "musical noise in the relevant sound: 0 is as much as in the input, larger warbles more",
        UNBOUNDED,
    ),
)
"""Proxies for how an explanation sounds."""

CHECK = (
    Score("deletion", "deletion", "", SMALLER, "probability as the most important bins are removed", SHARE),
    Score("insertion", "insertion", "", LARGER, "probability with the most important bins alone", SHARE),
    Score("rank_correlation", "rank correlation", "", NEITHER, "Spearman correlation of two maps", (-1.0, 1.0)),
    Score("ssim", "SSIM", "", NEITHER, "structural similarity of two maps' ranks", (-1.0, 1.0)),
    Score("prediction_kept", "prediction kept", "", NEITHER, "share of clips that keep their predicted class", SHARE),
    Score("max_change", "largest change", "", NEITHER, "largest change of a map that is scaled to 0 .. 1", SHARE),
)
"""What the checks of `recipes.checks` measure beside the scores above."""

SCORES = {score.key: score for score in (*PREDICTION, *EXPLANATION, *TRUTH, *QUALITY, *CHECK)}
"""Every score by its key."""


def keys(scores: Iterable[Score]) -> tuple[str, ...]:
    """The keys of some scores, in their order."""
    return tuple(score.key for score in scores)


OF_CLASSIFIER = ("acc", "map", "macro_auc", "macro_f1", "precision")
"""The scores of a classifier's answers; which of them a run has depends on what its labels are."""

AVERAGED = (*OF_CLASSIFIER, *keys(EXPLANATION), *keys(TRUTH))
"""A run's metrics, in the order in which they are shown: most are means over the clips."""


def heading(key: str) -> str:
    """How people are shown a score; the key itself where it is none of `SCORES`."""
    return SCORES[key].heading if key in SCORES else key


def sentence(key: str) -> str:
    """What a score says, and which way is better; nothing where it is none of `SCORES`."""
    if key not in SCORES:
        return ""
    better = {LARGER: "; larger is better", SMALLER: "; smaller is better", NEITHER: ""}
    return SCORES[key].sentence + better[SCORES[key].direction]
