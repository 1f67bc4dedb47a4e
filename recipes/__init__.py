"""Recipes: data, Brains, checks and reports. The only package that knows files, folds, seeds and devices."""

import importlib.util
import os
from pathlib import Path


def _check_system() -> None:
    """Raises ImportError on Windows: runs and caches are guarded by file locks that it does not have."""
    if os.name == "nt":
        raise ImportError("Earwitness runs on Linux and macOS; on Windows, run it in WSL (wsl --install)")


def _check_neighbours() -> None:
    """Raises ImportError where a file of the user's own stands in the way of the packages beside this one."""
    home = Path(__file__).parents[1]
    for name in ("models", "interpreters"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin) if spec is not None and spec.origin else None
        if origin is None or origin.resolve() != (home / name / "__init__.py").resolve():
            stands = origin or f"another {name}"
            raise ImportError(
                f"{stands} hides Earwitness's package {name!r} ({home / name}): rename it, or run Python from elsewhere"
            )


_check_system()
_check_neighbours()
