"""Names that have moved, so that recipes and kept configurations written before go on working."""

import re
from pathlib import Path

# module before: module now
MODULES = {
    "recipes.schedules": "recipes.training.schedules",
    "recipes.probe": "recipes.training.probe",
    "recipes.checkpoints": "recipes.training.checkpoints",
    "recipes.augmentation": "recipes.data.augmentation",
    "recipes.audio": "recipes.data.audio",
    "recipes.cache": "recipes.data.cache",
    "recipes.contamination": "recipes.data.contamination",
    "recipes.download": "recipes.data.download",
    "recipes.noise": "recipes.data.noise",
    "recipes.esc50": "recipes.data.corpus",
    "recipes.quality": "recipes.scoring.quality",
    "recipes.explain": "recipes.scoring.explanation",
    "recipes.subject": "recipes.runs.subject",
    "recipes.page": "recipes.report.page",
    "recipes.examples": "recipes.report.examples",
    "recipes.files": "recipes.system.files",
    "recipes.interruption": "recipes.system.interruption",
    "recipes.parallel": "recipes.system.parallel",
    "recipes.rules": "recipes.config.rules",
}
# what left the module that the table above names: full name before, full name now
ATTRIBUTES = {
    "recipes.esc50.ClipStore": "recipes.data.clips.ClipStore",
    "recipes.esc50.ClipBatch": "recipes.data.clips.ClipBatch",
    "recipes.esc50.ClipDataset": "recipes.data.clips.ClipDataset",
    "recipes.training.RecipeBrain": "recipes.training.brain.RecipeBrain",
    "recipes.training.Selection": "recipes.training.brain.Selection",
    "recipes.report.ClipTable": "recipes.scoring.table.ClipTable",
    "recipes.report.RunFacts": "recipes.runs.facts.RunFacts",
    "recipes.scoring.Cost": "recipes.scoring.batch.Cost",
}
# file of hparams/ before: file now
FILES = {
    "saliency.yaml": "gradient.yaml",
    "classifiers/ast.yaml": "classifiers/ast_network.yaml",
    "classifiers/cnn14.yaml": "classifiers/cnn14_network.yaml",
    "classifiers/focalnet.yaml": "classifiers/focalnet_network.yaml",
    "classifiers/mobilenet.yaml": "classifiers/mobilenet_network.yaml",
    "classifiers/vit.yaml": "classifiers/vit_network.yaml",
    "interpreters/amortized.yaml": "interpreters/amortized_method.yaml",
    "interpreters/constant.yaml": "interpreters/constant_method.yaml",
    "interpreters/gradient.yaml": "interpreters/gradient_method.yaml",
    "interpreters/l2i.yaml": "interpreters/l2i_method.yaml",
    "interpreters/lmac.yaml": "interpreters/lmac_method.yaml",
    "interpreters/lmac_td.yaml": "interpreters/lmac_td_method.yaml",
    "interpreters/perturbation.yaml": "interpreters/perturbation_method.yaml",
    "interpreters/piq.yaml": "interpreters/piq_method.yaml",
    "interpreters/quantile.yaml": "interpreters/quantile_method.yaml",
    "interpreters/ranked.yaml": "interpreters/ranked_method.yaml",
    "interpreters/reordered.yaml": "interpreters/reordered_method.yaml",
}
# file of hparams/ that is gone: what to write instead
GONE = {
    "interpreters/lmac_paper.yaml": (
        "include interpreters/lmac_method.yaml with `decoder: !name:interpreters.decoders.PaperDecoder` below it"
    ),
}

_TAG = re.compile(r"(!(?:new|name|apply|applyref|module):)([A-Za-z_][\w.]*)")


def current_name(name: str) -> str:
    """The dotted name under which a class or function is found today."""
    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    module, _, attribute = name.rpartition(".")
    if module in MODULES:
        return f"{MODULES[module]}.{attribute}"
    return MODULES.get(name, name)


def with_current_names(text: str) -> str:
    """A recipe's text with every moved name in a tag (`!new:`, `!name:`, …) replaced by today's."""
    return _TAG.sub(lambda tag: tag[1] + current_name(tag[2]), text)


def current_file(path: Path) -> Path:
    """Where a file of hparams/ is today; the path itself where it did not move."""
    if path.exists():
        return path
    for before, now in FILES.items():
        depth = len(Path(before).parts)
        moved = Path(*path.parts[:-depth], now)
        if path.parts[-depth:] == Path(before).parts and moved.is_file():
            return moved
    return path


def advice(path: Path) -> str:
    """What to write instead of a file of hparams/ that is gone, as the end of a sentence; "" for another file."""
    for before, instead in GONE.items():
        if path.parts[-len(Path(before).parts) :] == Path(before).parts:
            return f": {instead}"
    return ""
