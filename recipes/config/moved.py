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
    "recipes.figures": "recipes.report.figures",
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
FILES = {"saliency.yaml": "gradient.yaml"}

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
        parts = Path(before).parts
        if path.parts[-len(parts) :] == parts:
            moved = Path(*path.parts[: -len(parts)], now)
            if moved.is_file():
                return moved
    return path
