"""Interpreters that are ready to explain any sound: those that finished runs left, and those that need no training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interpreters.base import Interpreter
from interpreters.controls import Ranked
from interpreters.gradients import Gradient
from interpreters.maps import QuantileMap
from interpreters.perturbation import Perturbation
from models.errors import UsageError
from recipes.runs.results import method_name, read_json
from recipes.runs.subject import Subject, load_interpreter, load_subject

CONTROL = "loudest bins (control)"
UNTRAINED: Mapping[str, Callable[..., Interpreter]] = {
    "Grad-CAM": partial(Gradient, method="grad_cam"),
    "gradient": Gradient,
    "input × gradient": partial(Gradient, method="input_x_gradient"),
    "integrated gradients": partial(Gradient, method="integrated_gradients"),
    "SmoothGrad": partial(Gradient, method="smoothgrad"),
    "occlusion": Perturbation,
    "LIME": partial(Perturbation, method="lime"),
    "native map": QuantileMap,
    CONTROL: partial(Ranked, order="loudest"),
}
"""Methods that need no training, by name, at their default settings; the fastest first."""


@dataclass(frozen=True)
class ReadyInterpreter:
    """An interpreter with a name for people."""

    name: str
    interpreter: Interpreter


def untrained_interpreters(subject: Subject, device: str) -> list[ReadyInterpreter]:
    """The methods of `UNTRAINED` that the classifier has what they need for."""
    ready = []
    for name, build in UNTRAINED.items():
        try:
            ready.append(ReadyInterpreter(name, build(info=subject.offers).to(device).eval()))
        except UsageError:
            continue  # this classifier has no such map
    return ready


def load_runs(
    runs: Sequence[Path], device: str, trust: Sequence[str] = (), subject: Subject | None = None
) -> tuple[Subject, list[ReadyInterpreter]]:
    """The classifier that all runs explain, and their interpreters.

    subject: the classifier, where it is loaded already. Raises UsageError for folders that are no finished runs of
    interpret.py, that are given twice, or that explain different classifiers.
    """
    if len(set(runs)) < max(len(runs), 1):
        raise UsageError("give different runs' folders, such as results/lmac/1234 results/grad_cam/1234")
    ready: list[ReadyInterpreter] = []
    for run in runs:
        if not (run / "classifier").is_dir() or not (run / "metrics.json").is_file():
            raise UsageError(f"{run} is no finished run of interpret.py: give a folder such as results/lmac/1234")
        if subject is None:
            subject = load_subject(run / "classifier", device, trust)
        facts = read_json(run / "metrics.json")
        name = method_name(facts["interpreter"])
        if name in [earlier.name for earlier in ready]:
            name = f"{name} ({facts['experiment']})"
        command = f"python interpret.py hparams/{facts['interpreter']['recipe']}.yaml"
        bundle = load_interpreter(run, subject, command, trust)
        ready.append(ReadyInterpreter(name, bundle.network.to(device).eval()))
    return subject, ready


def with_control(subject: Subject, ready: Sequence[ReadyInterpreter], device: str) -> list[ReadyInterpreter]:
    """The interpreters, followed by the loudest-bins control where it is not among them.

    The control keeps as much as the first interpreter that has a quantile.
    """
    quantile = 0.9
    for candidate in reversed(ready):
        if isinstance(candidate.interpreter, Ranked) and candidate.interpreter.order == "loudest":
            return list(ready)
        if candidate.interpreter.quantiles:
            quantile = candidate.interpreter.headline
    control = Ranked(subject.offers, "loudest", quantile).to(device)
    return [*ready, ReadyInterpreter(CONTROL, control)]
