"""What the scores of a run rest on, as one hash: where it is the same, scores may be put together."""

import hashlib
import json

from models.bundle import read_facts
from recipes.data.contamination import Contamination
from recipes.runs.facts import RunFacts, device_name
from recipes.runs.places import IDENTITY, is_bundle
from recipes.runs.run import InterpreterRun


def scoring_basis(run: InterpreterRun, facts: RunFacts, noise: Contamination) -> str:
    """SHA-256 of all that the scores of a run rest on: its recipe, clips, weights, device and versions.

    The interpreter's weights are those of the bundle in the run's folder. A method without training that is only tested
    leaves none, and has no weights. The number of processes makes no difference.
    """
    identity, bundle = run.results_folder / IDENTITY, run.folder / "interpreter"
    # the journal names clips by their positions, and a table of the same clips may list them in another order
    positions = [(i, run.store.corpus.clips[i].id) for i in run.clips("test")]
    about = [
        facts.config_sha256,
        identity.read_text(encoding="utf-8") if identity.is_file() else "",
        positions,
        run.subject.fingerprint,
        read_facts(bundle, "interpreter").sha256 if is_bundle(bundle) else {},
        noise.facts(),
        run.values["eval_precision"],
        run.values["eval_batch_size"],
        device_name(run.device),
        facts.commit,
        facts.torch,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
