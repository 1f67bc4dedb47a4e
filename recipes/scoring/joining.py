"""Joining the parts of neighbouring windows without a seam.

Where one window ends and the next begins, their masks differ, and a part that is cut from one mask to the other clicks.
Around every border the parts are therefore made again by one analysis across it. With R and S the relevant and the
residual sound on both sides, X the input, and |.| the linear STFT magnitude,

    share = |R| / (|R| + |S|),    relevant = synthesis(share |X|, phase of X),    residual = X - relevant,

faded in and out with a raised cosine that is 1 at the border. Relevant + residual stays what it was.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from models.frontend import FrontEnd, compress


@dataclass(frozen=True)
class Parts:
    """A stretch of sound and its two parts, float32 [L] each."""

    sound: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray


def fade_border(left: Parts, right: Parts, frontend: FrontEnd) -> None:
    """Change the parts of two neighbouring windows, in place, so that they meet without a seam."""
    reach = min(frontend.n_fft, len(left.sound))
    half = reach // 2
    # the outer half of the stretch carries the effects of its own ends
    fade = np.zeros(2 * reach, np.float32)
    fade[reach - half : reach + half] = np.hanning(2 * half + 1)[:-1]
    sound = np.concatenate([left.sound[-reach:], right.sound[:reach]])
    relevant = np.concatenate([left.relevant[-reach:], right.relevant[:reach]])
    residual = np.concatenate([left.residual[-reach:], right.residual[:reach]])
    across = _relevant_across(Parts(sound, relevant, residual), frontend)
    relevant += fade * (across - relevant)
    residual += fade * (sound - across - residual)
    left.relevant[-reach:], right.relevant[:reach] = relevant[:reach], relevant[reach:]
    left.residual[-reach:], right.residual[:reach] = residual[:reach], residual[reach:]


def _relevant_across(stretch: Parts, frontend: FrontEnd) -> np.ndarray:
    """The relevant part of a stretch, made of the shares that its two parts have in every bin."""
    sound = frontend.analyze(torch.from_numpy(stretch.sound)[None])
    relevant = frontend.analyze(torch.from_numpy(stretch.relevant)[None])
    residual = frontend.analyze(torch.from_numpy(stretch.residual)[None])
    total = relevant.magnitude + residual.magnitude
    share = relevant.magnitude / total.clamp(min=torch.finfo(total.dtype).tiny)
    shared = replace(sound, log_magnitude=compress(share * sound.magnitude))
    return frontend.synthesize(shared)[0].numpy()
