"""The build backend: setuptools' for installing a clone in place, and no wheels or archives.

The commands (`train.py`, `interpret.py`) and the recipes (`hparams/`) lie in the clone. A wheel of the packages alone
would install neither, and top-level packages named `models` and `recipes` into everybody's environment.
"""

from setuptools.build_meta import build_editable, get_requires_for_build_editable, prepare_metadata_for_build_editable

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "prepare_metadata_for_build_editable",
]

REFUSAL = "Earwitness runs from a clone, not from a wheel: git clone it and run `make setup` (pip install --editable .)"


def build_wheel(wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None):
    """Refuses what `pip install .` and `python -m build` ask for. Raises SystemExit."""
    raise SystemExit(f"error: {REFUSAL}")


def build_sdist(sdist_directory: str, config_settings: dict | None = None):
    """Refuses as `build_wheel`."""
    raise SystemExit(f"error: {REFUSAL}")
