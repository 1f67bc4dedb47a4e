"""How much of LMAC-TD's masks is one filter for all sounds, which knows nothing of the classifier.

    python -m tools.fixed_filter hparams/lmac_td_mobilenet.yaml --data_folder=path/to/ESC-50 [--clips=40]

A mask has a value for every filter of the codec and every frame. The share of its variance that the mean mask of each
filter explains, over all frames of all clips, is 1 where the mask is an equaliser that never moves, and 0 where filters
do not differ in their means. Made on test clips evenly spaced over the folds; --out writes the row as JSON.
"""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from interpreters.lmac_td import LMACTD
from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.data.clips import ClipDataset, collate
from recipes.data.corpus import evenly_spaced
from recipes.runs.trained import open_trained_run
from recipes.system.entry import entry
from tools.runner import check_out, positive, report_result, tool_parser


class FilterVariance:
    """Sums over frames of masks, from which the variance of all values and of the filters' means follow."""

    def __init__(self):
        self.frames = 0
        self.total: Tensor | float = 0.0
        self.squares = 0.0

    def add(self, mask: Tensor) -> None:
        """mask: [B, filters, L]."""
        mask = mask.double()
        self.frames += mask.shape[0] * mask.shape[2]
        self.total = self.total + mask.sum(dim=(0, 2))
        self.squares += mask.square().sum().item()

    @property
    def means(self) -> Tensor:
        """[filters] the mean mask of each."""
        return torch.as_tensor(self.total) / self.frames

    @property
    def explained(self) -> float:
        """Share of the variance that the filters' means explain, in [0, 1]; 1 for a mask that is constant."""
        whole = self.squares / (self.frames * len(self.means)) - self.means.mean().item() ** 2
        return 1.0 if whole < 1e-12 else self.means.var(correction=0).item() / whole


@torch.no_grad()
def measure(arguments: list[str], clips: int) -> dict:
    """The row of a recipe's trained LMAC-TD. Raises UsageError for another method."""
    run = open_trained_run(load_recipe(arguments))
    interpreter, classifier = run.interpreter, run.subject.classifier
    if not isinstance(interpreter, LMACTD):
        raise UsageError(f"{arguments[0]} is {type(interpreter).__name__}: only LMAC-TD masks the code of a filterbank")
    variance = FilterVariance()
    chosen = evenly_spaced(run.clips("test"), clips)
    for batch in DataLoader(ClipDataset(run.store, chosen), run.values["eval_batch_size"], collate_fn=collate):
        waveform = batch.waveform.to(run.device)
        maps = classifier(classifier.frontend.analyze(waveform)).features.maps
        variance.add(interpreter.mask_of(waveform, maps))
    return {
        "experiment": run.values["experiment"],
        "classifier": run.subject.info.source["experiment"],
        "alpha": interpreter.alpha,
        "clips": len(chosen),
        "seed": run.values["seed"],
        "mean_mask": round(variance.means.mean().item(), 3),
        "explained_by_a_fixed_filter": round(variance.explained, 3),
    }


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("fixed_filter", __doc__)
    parser.add_argument("--clips", type=positive, default=40, help="test clips, evenly spaced over the folds")
    options, recipe = parser.parse_known_args(arguments)
    check_out(options.out)
    report_result(measure(recipe, options.clips), options.out)


if __name__ == "__main__":
    entry(main)
