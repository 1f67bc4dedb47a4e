"""A fuzzer: bytes of sound and metadata files changed at random; what comes out is data or a sentence.

python -m tools.fuzz --cases=20000 --out=docs/results/reliability/fuzz.json
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.data.audio import read_audio
from recipes.data.metadata import read_corpus
from recipes.system.entry import entry
from tools.faults import encoded, make, rows
from tools.runner import check_out, positive, report_result, tool_parser

KINDS = ("WAV", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG")
HEADER_BYTES = 64


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a file after one to three changes, more often in its header than behind it.

    A change sets a byte, removes or doubles a run of bytes, or cuts the end off.
    """
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        end = min(len(data), HEADER_BYTES if rng.random() < 0.6 else len(data))
        place = rng.randrange(max(1, end))
        length = rng.choice((1, 2, 4, 8, 100))
        change = rng.randrange(6)
        if change < 3:
            data[place : place + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
        elif change == 3:
            del data[place : place + length]
        elif change == 4:
            data[place:place] = data[place : place + length]
        else:
            kept = rng.randrange(len(data) - place + 1)
            del data[place + kept :]
    return bytes(data)


def hear(path: Path) -> None:
    """Read a sound. Raises UsageError as `read_audio`, AssertionError for what no recipe may receive."""
    audio = read_audio(path, 1.0)
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.ndim == 2
    assert audio.waveform.size
    assert np.isfinite(audio.waveform).all()


def list_clips(folder: Path) -> None:
    """Read metadata. Raises UsageError as `read_corpus`, AssertionError for what no recipe may receive."""
    corpus = read_corpus(folder)
    assert corpus.clips
    assert len({clip.id for clip in corpus.clips}) == len(corpus.clips)
    assert {clip.target for clip in corpus.clips} == set(range(len(corpus.class_names)))
    for clip in corpus.clips:
        assert clip.path.parent == folder / "audio" and clip.path.is_file()
        assert corpus.class_names[clip.target] == clip.label


def outcomes(cases: int, seed: int, run_case: Callable[[random.Random], None]) -> dict:
    """How many cases were read and how many refused, and every fault with the number of its case."""
    counts: Counter = Counter()
    faults = []
    for case in range(cases):
        try:
            run_case(random.Random(f"{seed} {case}"))
            counts["read"] += 1
        except UsageError as error:
            counts["refused" if "\n" not in str(error) else "told in several lines"] += 1
        except Exception as error:
            faults.append(f"case {case}: {type(error).__name__}: {error}"[:200])
    return {"cases": cases, **dict(sorted(counts.items())), "faults": faults}


def fuzz(cases: int, seed: int, base: Path) -> dict[str, dict]:
    """The outcomes for sounds and for metadata."""
    sounds = [encoded(kind=kind)() for kind in KINDS]
    good = sounds[0]
    folder = make(base / "set", rows(), dict.fromkeys(("a.wav", "b.wav", "c.wav"), good))

    def read_sound(rng: random.Random) -> None:
        path = base / "sound.wav"
        path.write_bytes(mutated(rng.choice(sounds), rng))
        hear(path)

    def read_table(rng: random.Random) -> None:
        (folder / "meta" / "mine.csv").write_bytes(mutated(rows(), rng))
        list_clips(folder)

    return {"sounds": outcomes(cases, seed, read_sound), "tables": outcomes(cases, seed, read_table)}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("fuzz", __doc__, seeded=True)
    parser.add_argument("--cases", type=positive, default=20000)
    options = parser.parse_args(arguments)
    check_out(options.out)
    with tempfile.TemporaryDirectory() as base:
        counts = fuzz(options.cases, options.seed, Path(base))
    report_result(counts, options.out)


if __name__ == "__main__":
    entry(main)
