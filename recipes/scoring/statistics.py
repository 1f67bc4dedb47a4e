"""Intervals and significance of scores: bootstrap, permutation test, and correction for many comparisons.

Clips that were cut from one recording are not independent, so a recording is what is drawn and what is flipped.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

RESAMPLES = 9999
CONFIDENCE = 0.95
DRAWS_PER_COMPARISON = 1000
"""Holm's method multiplies the smallest p-value by the number of comparisons, so many of them need more draws."""
BLOCK = 2000
"""Draws of signs that are held in memory at once."""


def bootstrap_interval(values: np.ndarray, groups: Sequence | None = None, seed: int = 0) -> dict:
    """Mean of some values with its 95 % percentile bootstrap interval: `mean`, `low`, `high`, and `n` values.

    values: [clips], or [listeners, clips] where both are samples of something larger. Every axis is drawn from with
    replacement, independently of the other (A. B. Owen, The pigeonhole bootstrap, 2007). groups: for each row of
    `values` the group that is drawn as a whole, such as a clip's recording; None: every row is a group. NaN is a
    missing value. All but `n` are None where every value is missing.
    """
    defined = ~np.isnan(values)
    count = int(defined.sum())
    if not count:
        return {"mean": None, "low": None, "high": None, "n": 0}
    present = defined if values.ndim == 1 else defined.any(axis=1)
    groups = range(len(values)) if groups is None else groups
    kept_groups = []
    for group, is_present in zip(groups, present, strict=True):
        if is_present:
            kept_groups.append(group)
    totals = group_sums(np.nan_to_num(values[present]), kept_groups)
    counts = group_sums(defined[present].astype(float), kept_groups)
    means = _resampled_means(totals, counts, seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail)).tolist()
    return {"mean": float(values[defined].mean()), "low": low, "high": high, "n": count}


def group_sums(values: np.ndarray, groups: Sequence) -> np.ndarray:
    """Values [rows, ...] added up within each group, [groups, ...], in the order in which groups first appear."""
    positions: dict = {}
    rows = []
    for group in groups:
        rows.append(positions.setdefault(group, len(positions)))
    totals = np.zeros((len(positions), *values.shape[1:]))
    np.add.at(totals, rows, values)
    return totals


def _resampled_means(totals: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """The mean of every bootstrap sample that holds a value. totals, counts: [groups] or [groups, columns]."""
    weights = _draw_weights(totals.shape, seed)
    sampled_totals = weights[0] @ totals
    sampled_counts = weights[0] @ counts
    if totals.ndim == 2:
        sampled_totals = (sampled_totals * weights[1]).sum(axis=1)
        sampled_counts = (sampled_counts * weights[1]).sum(axis=1)
    holds_a_value = sampled_counts > 0
    return sampled_totals[holds_a_value] / sampled_counts[holds_a_value]


@lru_cache(maxsize=2)
def _draw_weights(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """For each axis, how often each of its members is in each of `RESAMPLES` samples: [RESAMPLES, members]."""
    rng = np.random.default_rng(seed)
    weights = []
    for members in shape:
        drawn = rng.integers(members, size=(RESAMPLES, members))
        drawn += members * np.arange(RESAMPLES)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * members)
        weights.append(counts.reshape(RESAMPLES, members).astype(float))
    return weights


def sign_flip_test(differences: np.ndarray, groups: Sequence, seed: int = 0) -> np.ndarray:
    """Two-sided p-values [m] of the means of paired differences [clips, m]; NaN counts as no pair.

    Null hypothesis: the differences of each group might as well have the other sign.
    """
    totals = group_sums(np.nan_to_num(differences), groups)
    comparisons = totals.shape[1]
    observed = np.abs(totals.sum(axis=0)) * (1 - 1e-9)  # a draw that rounds to just below is as extreme
    draws = max(RESAMPLES, DRAWS_PER_COMPARISON * comparisons)
    as_extreme = np.ones(comparisons)  # what was observed is one of the draws
    rng = np.random.default_rng(seed)
    for start in range(0, draws, BLOCK):
        signs = rng.choice((-1.0, 1.0), (min(BLOCK, draws - start), len(totals)))
        as_extreme += (np.abs(signs @ totals) >= observed).sum(axis=0)
    return as_extreme / (draws + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values [m] corrected for looking at all m of them (S. Holm, 1979)."""
    order = p_values.argsort()
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.maximum.accumulate(scaled).clip(max=1)
    return corrected[order.argsort()]
