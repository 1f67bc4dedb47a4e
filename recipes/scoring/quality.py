"""Proxies for how an explanation sounds. They are no listening test: only people can say (see `recipes.listening`)."""

import math

import numpy as np
import torch

from interpreters.ground_truth import si_sdr
from models.frontend import FrontEnd
from recipes.data.audio import SILENCE_PEAK
from recipes.scoring.explanation import Explanation

SI_SDR_LIMIT_DB = 60.0
"""Closer than this, two sounds differ by less than anyone hears."""
AUDIBLE_POWER = 1e-12


def proxies(frontend: FrontEnd, explanation: Explanation) -> dict[str, float]:
    """Two numbers for the relevant sound of an explanation of one window.

    si_sdr: of the relevant sound to the input restricted to the mask, in dB, at most `SI_SDR_LIMIT_DB`. Methods whose
    relevant part *is* the masked input reach the limit by construction; below it, the sound holds something that the
    mask does not explain. log_kurtosis_ratio: `log_kurtosis_ratio` of input and relevant sound. Both NaN where
    undefined.
    """
    whole = frontend.analyze(torch.from_numpy(explanation.sound)[None])
    relevant = frontend.analyze(torch.from_numpy(explanation.relevant)[None])
    restricted = frontend.synthesize(whole.masked(torch.from_numpy(explanation.mask)[None]))[0].numpy()
    power_input = whole.magnitude[0].double().square().numpy()
    power_relevant = relevant.magnitude[0].double().square().numpy()
    return {
        "si_sdr": bounded_si_sdr(explanation.relevant, restricted),
        "log_kurtosis_ratio": log_kurtosis_ratio(power_input, power_relevant),
    }


def bounded_si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """`interpreters.ground_truth.si_sdr` in dB of two sounds [N], within +-`SI_SDR_LIMIT_DB`.

    NaN where either is silent.
    """
    if min(np.abs(estimate).max(), np.abs(reference).max()) < SILENCE_PEAK:
        return math.nan
    ratio = si_sdr(torch.from_numpy(estimate)[None], torch.from_numpy(reference)[None]).item()
    return min(max(ratio, -SI_SDR_LIMIT_DB), SI_SDR_LIMIT_DB)


def log_kurtosis_ratio(power_input: np.ndarray, power_relevant: np.ndarray) -> float:
    """Musical noise: ln of the ratio of kurtoses (relevant : input) of power spectra [T, F], mean over the F bins.

    Kurtosis is E[P^4] / E[P^2]^2 over the frames of a bin; isolated peaks, which warble, raise it, so larger is worse
    and 0 is the input's own. Bins that are silent in either are left out; NaN where none is left. Source: Uemura et
    al., IWAENC 2008, who measure it on noise alone; here signal and noise are not told apart, so compare methods on
    the same clips only. It agrees with listeners to a limited degree (Torcoli, WASPAA 2019).
    """
    audible = (power_input.max(axis=0) > AUDIBLE_POWER) & (power_relevant.max(axis=0) > AUDIBLE_POWER)
    if not audible.any():
        return math.nan
    logs = _log_kurtosis(power_relevant[:, audible]) - _log_kurtosis(power_input[:, audible])
    return float(logs.mean())


def _log_kurtosis(power: np.ndarray) -> np.ndarray:
    """ln of the kurtosis [F] of power spectra [T, F] over time; a bin's level makes no difference."""
    power = power / power.max(axis=0)
    return np.log((power**4).mean(axis=0) / (power**2).mean(axis=0) ** 2)
