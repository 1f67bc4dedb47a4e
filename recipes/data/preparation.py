"""From a data folder to its clips: found, checked and decoded once."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import UsageError
from recipes.data.cache import decoded_clips
from recipes.data.clips import ClipStore
from recipes.data.corpus import Corpus, FoldSplit
from recipes.data.download import download_esc50, is_missing
from recipes.data.folder import require_folder
from recipes.data.metadata import read_corpus
from recipes.system.files import name_some

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """Where the clips of a run come from.

    subset: "esc10" for the clips that the column of that name marks. columns: other names for some of the columns, see
    `recipes.data.layouts`. label_separator: what stands between the labels of a clip in the table; None: it has one.
    download: fetch ESC-50 into a `folder` that is not there; without it a download happens only into a folder that is
    there and empty.
    """

    folder: Path
    subset: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label_separator: str | None = None
    download: bool = False


def prepare(
    source: DataSource | str | Path,
    cache_folder: str | Path,
    sample_rate: int = 16000,
    clip_seconds: float = 5.0,
    workers: int | None = None,
    check: Callable[[Corpus], object] = lambda corpus: None,
) -> ClipStore:
    """Check the data and decode it once. ESC-50 is downloaded first where `source` asks for it (see `find_data`).

    Every clip becomes mono, `sample_rate` Hz, `clip_seconds` long (see `recipes.data.audio.fit_length`) and has an
    absolute peak of 1, silence excepted. source: a path stands for the whole set in that folder. workers: threads that
    decode; by default as many as there are cores. check: called with the metadata before anything is decoded.

    Raises UsageError for faults of the metadata, files that cannot be used, and settings out of range.
    """
    if not isinstance(source, DataSource):
        source = DataSource(Path(source))
    num_samples = round(sample_rate * clip_seconds)
    if sample_rate < 1 or num_samples < 1 or sample_rate != int(sample_rate):
        raise UsageError(
            f"sample_rate is {sample_rate} Hz and clip_seconds {clip_seconds} s: "
            "give a positive whole rate and a positive length."
        )
    find_data(source)
    corpus = read_corpus(source.folder, source.subset, source.columns, source.label_separator)
    check(corpus)
    paths = [clip.path for clip in corpus.clips]
    return ClipStore(corpus, sample_rate, decoded_clips(paths, cache_folder, sample_rate, num_samples, workers))


def find_data(source: DataSource) -> None:
    """Download ESC-50 into a folder that is there and empty, or into any missing one where `source.download` is set.

    Raises UsageError for a folder that is not there: a mistyped path must not start a download of 600 MB.
    """
    folder = source.folder
    require_folder(folder, source.download)
    if is_missing(folder):
        download_esc50(folder)


def warn_of_copies(store: ClipStore, splits: Sequence[FoldSplit]) -> None:
    """Name sound files that are in two parts of a split under other names: they flatter a classifier."""
    folds_of_content = defaultdict(dict)
    for clip, digest in zip(store.corpus.clips, store.decoded.digests, strict=True):
        folds_of_content[digest].setdefault(clip.fold, clip.id)
    copies = []
    for ids in folds_of_content.values():
        if len(ids) > 1 and _in_several_parts(ids, splits):
            copies.append(" = ".join(ids.values()))
    if copies:
        logger.warning(
            "%d sounds of %s are the same file under several names, in several of train, valid and test: %s.",
            len(copies),
            store.corpus.name,
            name_some(copies),
        )


def _in_several_parts(folds: Collection[int], splits: Sequence[FoldSplit]) -> bool:
    """Whether any of the splits has these folds in more than one of its parts."""
    for split in splits:
        parts = 0
        for part in (split.train, split.valid, split.test):
            parts += not set(part).isdisjoint(folds)
        if parts > 1:
            return True
    return False
