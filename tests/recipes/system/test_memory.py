"""Freed memory is used again: counted are the pages that the system hands out while a large block comes and goes."""

import subprocess
import sys

import pytest

BLOCKS = """
import resource, sys
import torch
from recipes.system.memory import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
for _ in range(30):  # glibc fills its gaps after a few
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(pages)
"""


def pages_of_a_block(mode: str) -> int:
    process = subprocess.run([sys.executable, "-c", BLOCKS, mode], capture_output=True, text=True, check=False)
    if process.returncode == 3:
        pytest.skip("this C library keeps no memory on demand")
    return int(process.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_block_as_large_as_a_batch_of_maps_costs_new_pages_once():
    assert pages_of_a_block("kept") < 10
    assert pages_of_a_block("as it comes") >= 32  # of 2 MiB, or more of 4 KiB
