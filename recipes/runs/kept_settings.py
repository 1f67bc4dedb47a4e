"""The settings of a trained interpreter, which its bundle keeps, against those that a command line asks for."""

from collections.abc import Collection
from pathlib import Path

from models.errors import UsageError
from recipes.config.meaning import meaning, meaning_of_bundle
from recipes.config.recipe import Recipe
from recipes.runs.changes import phrases, recipe_changes


def check_settings_kept(recipe: Recipe, folder: Path) -> None:
    """Raise UsageError where the command line gives a trained interpreter other settings than its bundle keeps.

    It explains as it was trained, so they would do nothing. folder: of the run that trained it.
    """
    bundle = folder / "interpreter"
    kept = meaning_of_bundle((bundle / "model.yaml").read_text(encoding="utf-8"), "interpreter")
    asked = {"interpreter": meaning(recipe.text)["interpreter"]}
    ignored = []
    for change in recipe_changes(kept, asked):
        if _is_on_line(change.key, recipe.line_keys) and not change.key.endswith(".weights"):  # a bundle keeps no paths
            ignored.append(change)
    if ignored:
        raise UsageError(
            f"{bundle} keeps the settings that it was trained with, which are others ({'; '.join(phrases(ignored))}): "
            f"leave these out, or take its weights into a run of its own by --start_from={folder} --epochs=0 "
            "--experiment=another_name, without --audio or --test_only"
        )


def _is_on_line(key: str, line_keys: Collection[str]) -> bool:
    """Whether the command line gives a key or one above it."""
    return any(key == name or key.startswith(f"{name}.") for name in line_keys)
