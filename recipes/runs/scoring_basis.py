"""What the scores of a run rest on, as one hash: where it is the same, scores may be put together."""

import hashlib
import json

import torch

from recipes.data.contamination import Contamination
from recipes.runs.facts import commit, device_name
from recipes.runs.identity import FILE
from recipes.runs.run import InterpreterRun


def scoring_basis(run: InterpreterRun, noise: Contamination) -> str:
    """SHA-256 of all that the scores of a run rest on: its recipe, clips, weights, precision, device and versions."""
    identity = run.results_folder / FILE
    about = [
        run.recipe.sha256,
        identity.read_text(encoding="utf-8") if identity.is_file() else "",
        run.subject.fingerprint,
        noise.facts(),
        run.values["eval_precision"],
        run.values["eval_batch_size"],
        device_name(run.device),
        commit(),
        torch.__version__,
    ]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(run.interpreter.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
