"""Proxies for how an explanation sounds. They are no listening test: only people can say (see `recipes.listening`)."""

import math

import numpy as np
import torch

from models.frontend import FrontEnd
from recipes.data.audio import SILENCE_PEAK
from recipes.scoring.explanation import Explanation

SI_SDR_LIMIT_DB = 60.0
"""Closer than this, two sounds differ by less than anyone hears."""


def proxies(frontend: FrontEnd, found: Explanation) -> dict[str, float]:
    """Two numbers for the relevant sound of an explanation of one window.

    si_sdr: `si_sdr` of the relevant sound to the input restricted to the mask, in dB, at most `SI_SDR_LIMIT_DB`.
    Methods whose relevant part *is* the masked input reach the limit by construction; below it, the sound holds
    something that the mask does not explain. log_kurtosis_ratio: `log_kurtosis_ratio` of input and relevant sound.
    Both NaN where undefined.
    """
    heard, relevant = (frontend.analyze(torch.from_numpy(wave)[None]) for wave in (found.sound, found.relevant))
    restricted = frontend.synthesize(heard.masked(torch.from_numpy(found.mask)[None]))[0].numpy()
    powers = [one.magnitude[0].double().square().numpy() for one in (heard, relevant)]
    return {"si_sdr": si_sdr(found.relevant, restricted), "log_kurtosis_ratio": log_kurtosis_ratio(*powers)}


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of two sounds [N], within +-`SI_SDR_LIMIT_DB`.

    NaN where either is silent. Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, equation (4).
    """
    estimate, reference = estimate.astype(np.float64), reference.astype(np.float64)
    if min(np.abs(estimate).max(), np.abs(reference).max()) < SILENCE_PEAK:
        return math.nan
    target = reference * (estimate @ reference) / (reference @ reference)
    energies = [float(part @ part) + 1e-20 for part in (target, estimate - target)]
    return float(np.clip(10 * math.log10(energies[0] / energies[1]), -SI_SDR_LIMIT_DB, SI_SDR_LIMIT_DB))


def log_kurtosis_ratio(power_input: np.ndarray, power_relevant: np.ndarray) -> float:
    """Musical noise: ln of the ratio of kurtoses (relevant : input) of power spectra [T, F], mean over the F bins.

    Kurtosis is E[P^4] / E[P^2]^2 over the frames of a bin; isolated peaks, which warble, raise it, so larger is worse
    and 0 is the input's own. Bins that are silent in either are left out; NaN where none is left. Source: Uemura et
    al., IWAENC 2008, who measure it on noise alone; here signal and noise are not told apart, so compare methods on
    the same clips only. It agrees with listeners to a limited degree (Torcoli, WASPAA 2019).
    """
    logs = []
    audible = (power_input.max(axis=0) > 1e-12) & (power_relevant.max(axis=0) > 1e-12)
    for power in (power_input, power_relevant):
        power = power[:, audible] / power[:, audible].max(axis=0)
        logs.append(np.log((power**4).mean(axis=0) / (power**2).mean(axis=0) ** 2))
    return float((logs[1] - logs[0]).mean()) if audible.any() else math.nan
