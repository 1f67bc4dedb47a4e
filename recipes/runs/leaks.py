"""The guard against testing on what was trained on: clips are compared by their content and their recording."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from models.bundle import BundleInfo, read_facts
from models.errors import UsageError
from recipes.data.corpus import Corpus
from recipes.runs.run import Run
from recipes.system.files import name_some

DID = {"train": "trained", "valid": "chosen"}
"""What a network's maker did with the clips of a part."""

KINDS = ("content", "recordings", "samples")
"""What clips are compared by."""


def seen_clips(run: Run) -> dict[str, dict[str, list[str]]]:
    """What a bundle keeps of the clips that its network was trained and chosen on: `clip_hashes` by part.

    "samples" beside them: of every clip's decoded samples, which are alike in files of other formats and names.
    """
    seen = {}
    for part in DID:
        clips = run.clips(part)
        seen[part] = clip_hashes(run.store.corpus, clips, run.store.clip_hash)
        seen[part]["samples"] = _without_silence(map(run.store.samples_hash, clips))
    return seen


def clip_hashes(corpus: Corpus, clips: Sequence[int], clip_hash: Callable[[int], str]) -> dict[str, list[str]]:
    """Hashes that tell whether clips are among others. clips: their positions in the corpus.

    "content": of every clip's file, by `clip_hash`. "recordings": of the name of every recording that the clips were
    cut from, where the corpus tells it.
    """
    content, recordings = [], set()
    for i in clips:
        content.append(clip_hash(i))
        recording = _recording(corpus, i)
        if recording is not None:
            recordings.add(recording)
    return {"content": content, "recordings": sorted(recordings)}


def add_seen(first: Mapping, second: Mapping) -> dict:
    """What two networks have seen together, each as `seen_clips` returns it; an empty mapping adds nothing."""
    union: dict = {}
    for part in DID:
        union[part] = {}
        for kind in KINDS:
            hashes = first.get(part, {}).get(kind, []) + second.get(part, {}).get(kind, [])
            union[part][kind] = list(dict.fromkeys(hashes))
    return union


def check_unseen(info: BundleInfo, run: Run, path: Path) -> None:
    """Raises UsageError where a network was trained or chosen on a test clip of the run.

    info, path: of the network's bundle. One that keeps no hashes of clips was made by an older version: it can only be
    compared by its folds, and only where the whole data set is the same.
    """
    data = info.source["data"]
    if data["content"] == run.store.content_hash:
        shared = sorted({*data["train_folds"], *data["valid_folds"]} & set(run.folds("test")))
        if shared:
            did = "trained" if shared[0] in data["train_folds"] else "chosen"
            raise UsageError(
                f"{path} was {did} on fold {shared[0]}, which is a test fold here: choose other test_folds"
            )
    for part, seen in info.source.get("clips", {}).items():
        known = set()
        for kind in KINDS:
            known.update(seen.get(kind, []))
        names = []
        for i in run.clips("test"):
            if not known.isdisjoint(_hashes(run, i)):
                names.append(run.store.corpus.clips[i].id)
        if names:
            raise UsageError(
                f"{path} was {DID[part]} on {len(names)} of the {len(run.clips('test'))} test clips here, or on other "
                f"clips of their recordings: {name_some(names, 3)}; choose other test_folds, or leave these clips out"
            )


def check_interpreter_unseen(earlier: Path, run: Run) -> None:
    """`check_unseen` for the interpreter that an earlier run left in its folder, where it was trained."""
    info = read_facts(earlier / "interpreter", "interpreter")
    if info.source["training"]:
        check_unseen(info, run, earlier / "interpreter")


def _hashes(run: Run, i: int) -> set[str]:
    hashes = {run.store.clip_hash(i), *_without_silence([run.store.samples_hash(i)])}
    recording = _recording(run.store.corpus, i)
    return hashes if recording is None else hashes | {recording}


def _without_silence(hashes: Iterable[str | None]) -> list[str]:
    """The hashes of clips that are not silent: silence is alike in clips that have nothing to do with each other."""
    return [samples for samples in hashes if samples is not None]


def _recording(corpus: Corpus, i: int) -> str | None:
    """A hash of the recording that clip i was cut from; None where the corpus does not tell it.

    Clips of one recording under different labels may be apart (see `recipes.data.splits.fold_split`), and recordings of
    two data sets may share a name: the label and the name of the set belong to the hash.
    """
    clip = corpus.clips[i]
    if clip.group == clip.id:
        return None
    return hashlib.sha256(f"{corpus.name}\n{clip.group}\n{clip.label}".encode()).hexdigest()[:16]
