"""Of several processes, one speaks."""

import gc
import os
import subprocess
import sys

import pytest

from recipes.system.entry import without_collection

SCRIPT = """
import logging
from recipes.system.entry import entry
entry(lambda arguments: logging.getLogger("recipes.data.cache").warning("2 of 6 sound files hold digital silence"))
"""


@pytest.mark.parametrize(("rank", "lines"), [(None, 1), ("0", 1), ("1", 0)])
def test_warnings_are_told_by_one_of_several_processes(rank, lines):
    environment = {key: value for key, value in os.environ.items() if key != "RANK"}
    if rank is not None:
        environment["RANK"] = rank
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert run.stderr.count("hold digital silence") == lines


@pytest.mark.parametrize("enabled", [True, False])
def test_imports_pass_without_collection_and_leave_it_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(ZeroDivisionError), without_collection():
            1 / 0  # noqa: B018 - as an import that fails
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
