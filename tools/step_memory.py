"""Memory of a training step of each published interpreter at its full size, computed from shapes.

    python -m tools.step_memory                                      all that are trained, in fp32
    python -m tools.step_memory --only lmac lmac_td_alpha075 --batch_size 4

Counted are the classifier, the interpreter with its gradients and Adam's two moments, and what the forward pass keeps
for the backward one. A process holds more: about 0.9 GB before any network, and what a single operation works in.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from interpreters.base import Interpreter
from models.classifier import AudioClassifier
from models.frontend import Spectrogram
from recipes.config.compose import compose
from recipes.config.recipe import Recipe, load_recipe
from recipes.config.yaml_text import plain
from recipes.report.markdown import markdown_table
from recipes.runs.departures import PAPER
from recipes.system.entry import entry
from tools.rehearse import chosen
from tools.runner import check_out, positive, save_result, tool_parser

BYTES, ADAM = 4, 4
"""Of a number in fp32; numbers that training holds of a parameter: itself, its gradient, and Adam's two moments."""


def kept_for_backward(compute: Callable[[], object], modules: list[nn.Module]) -> int:
    """Bytes that autograd keeps of a computation until its backward pass, beside the modules' own weights.

    Tensors that share a storage count once.
    """
    own = {tensor.untyped_storage()._cdata for module in modules for tensor in module.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other one gets its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    del result
    return sum(storage.nbytes() for storage in kept.values())


def networks(recipe: Recipe) -> tuple[AudioClassifier, Interpreter]:
    """The classifier that a recipe explains, with random weights, and its interpreter, without memory."""
    explained = Path(recipe.values["classifier"]).parts[-3].removeprefix("paper_")
    classifier = load_recipe([str(PAPER / f"{explained}.yaml"), "--weights=null"]).build()["model"]["classifier"]
    info = classifier.freeze().describe()
    with torch.device("meta"):
        interpreter = recipe.build()["interpreter"]["interpreter"](info=info)
    return classifier, interpreter.train()


def step_memory(recipe: Recipe, clips: int, seconds: float = 5.0) -> dict[str, float]:
    """GB of a step of so many clips: "classifier", "interpreter" (with gradients and moments), "kept" and "sum"."""
    classifier, interpreter = networks(recipe)
    heard = classifier.frontend.analyze(torch.zeros(clips, round(seconds * classifier.frontend.sample_rate)))
    heard = Spectrogram(heard.log_magnitude.to("meta"), heard.phase.to("meta"), heard.num_samples)
    classifier.to("meta")
    with patch.object(torch, "autocast", lambda *_, **__: nullcontext()):  # which a device without memory lacks
        with torch.no_grad():
            evidence = classifier(heard)
        loss = partial(interpreter.loss, classifier, heard, evidence, clean=heard)
        kept = kept_for_backward(loss, [classifier, interpreter])
    parts = {
        "classifier": BYTES * _count(classifier) / 1e9,
        "interpreter": BYTES * ADAM * _count(interpreter) / 1e9,
        "kept": kept / 1e9,
    }
    return {name: round(value, 2) for name, value in (parts | {"sum": sum(parts.values())}).items()}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("step_memory", __doc__)
    parser.add_argument("--only", nargs="+", help="set-ups by name")
    parser.add_argument("--batch_size", type=positive, help="clips in a step; without it, as published")
    options = parser.parse_args(arguments)
    check_out(options.out)
    rows = []
    for path in chosen(options.only):
        tree = compose(path).tree
        if "interpreter" not in tree or not plain(tree.get("epochs")):
            continue
        recipe = load_recipe([str(path)])
        clips = options.batch_size or recipe.values["batch_size"]
        rows.append({"name": path.stem, "clips": clips} | step_memory(recipe, clips))
        print(" ".join(map(str, rows[-1].values())), flush=True)
    print(
        markdown_table(
            ["set-up", "clips", "classifier", "interpreter", "kept", "sum, GB"],
            [list(map(str, row.values())) for row in rows],
        )
    )
    save_result({"precision": "fp32", "set_ups": rows}, options.out)


if __name__ == "__main__":
    entry(main)
