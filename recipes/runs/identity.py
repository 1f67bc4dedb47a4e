"""What a run reads beside its recipe: the content and labels of its clips, its classes, and the files it points at.

A run keeps it as `identity.json` when it begins. A path says nothing about this: what lies there may have changed.
"""

import hashlib
import importlib.util
import json
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.bundle import BundleInfo, read_facts
from models.errors import UsageError
from recipes.config.tagged import Tagged
from recipes.config.yaml_text import parse
from recipes.data.cache import FORMAT, HashMemo
from recipes.data.kinds import FOLDER_KINDS
from recipes.data.noise import sound_files
from recipes.runs.changes import ABSENT, phrases, recipe_changes
from recipes.runs.places import IDENTITY, is_bundle, run_of_fold
from recipes.runs.run import InterpreterRun, Run
from recipes.system.files import exclusive_lock, name_some, write_atomically

ROOT, PACKAGES = Path(__file__).parents[2], ("models", "interpreters", "recipes")
PARTS = ("train", "valid", "test")
SHOWN_DIGITS = 12
COMPUTING_OPTIONS = (
    "debug",
    "debug_batches",
    "debug_epochs",
    "precision",
    "eval_precision",
    "auto_mix_prec",
    "bfloat16_mix_prec",
    "max_grad_norm",
    "grad_accumulation_factor",
    "skip_nonfinite_grads",
    "remove_vector_weight_decay",
)
"""Run options of the command line with which another network, or other scores, come out."""


@dataclass(frozen=True)
class Identity:
    """What a run reads beside its recipe.

    clips: by part of the split and by id, each clip's label and the hash of its file (`ClipStore.clip_hash`).
    decoding: the version of what turns a file into a clip. files: a hash by the name of what else is read. options:
    SpeechBrain's run options that change what is computed (`COMPUTING_OPTIONS`). scored: by the folder of a
    contamination, what its scores rest on beside that. longer: how the recipe's epochs and schedule grew while it was
    trained.
    """

    class_names: tuple[str, ...]
    clips: dict[str, dict[str, tuple[str, str]]]
    decoding: int
    files: dict[str, str]
    options: dict[str, object] = field(default_factory=dict)
    scored: dict[str, dict] = field(default_factory=dict)
    longer: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run) -> "Identity":
        """That of a run as it is now."""
        clips, options = {}, {}
        for part in PARTS:
            clips[part] = clips_of(run, part)
        for name in COMPUTING_OPTIONS:
            if name in run.recipe.options:
                options[name] = run.recipe.options[name]
        return cls(run.store.corpus.class_names, clips, FORMAT, dict(_files(run)), options)

    @classmethod
    def kept_in(cls, folder: Path) -> "Identity | None":
        """The one that a run's folder keeps, None where it keeps none. Raises UsageError for a damaged file."""
        path = folder / IDENTITY
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            clips = {}
            for part in PARTS:
                clips[part] = {}
                for name, (label, clip_hash) in content["clips"][part].items():
                    clips[part][name] = (label, clip_hash)
            return cls(
                class_names=tuple(content["class_names"]),
                clips=clips,
                decoding=content["decoding"],
                files=dict(content["files"]),
                options=dict(content.get("options", {})),
                scored=dict(content["scored"]),
                longer=tuple(content["longer"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{path} is damaged ({error}): remove {folder} and begin the run again") from error

    def keep_in(self, folder: Path) -> None:
        write_atomically(folder / IDENTITY, (json.dumps(asdict(self), ensure_ascii=False) + "\n").encode())

    def changes(self, new: "Identity") -> list[str]:
        """What differs in `new`, old -> new, a phrase for each."""
        changes = []
        if self.class_names != new.class_names:
            changes.append(f"classes: {name_some(self.class_names, 5)} -> {name_some(new.class_names, 5)}")
        for part in PARTS:
            changes.extend(clip_changes(part, self.clips[part], new.clips[part]))
        if self.decoding != new.decoding:
            changes.append(f"decoding of sound files: version {self.decoding} -> {new.decoding}")
        for name in dict.fromkeys((*self.files, *new.files)):
            old_hash, new_hash = self.files.get(name, ABSENT), new.files.get(name, ABSENT)
            if old_hash != new_hash:
                changes.append(f"{name}: {old_hash[:SHOWN_DIGITS]} -> {new_hash[:SHOWN_DIGITS]}")
        return changes + phrases(recipe_changes(self.options, new.options))


def known_classes(folder: Path, kind: str) -> tuple[str, ...] | None:
    """The classes of a run in the order of its network's outputs; None where the folder does not know them yet.

    kind: of the bundle that the run leaves, for runs of older versions.
    """
    kept = Identity.kept_in(folder)
    if kept is not None:
        return kept.class_names
    if is_bundle(folder / kind):
        return read_facts(folder / kind, kind).class_names
    return None


def clips_of(run: Run, part: str) -> dict[str, tuple[str, str]]:
    """The clips of a part of a run's split, in the form that `Identity.clips` has them."""
    clips = {}
    for i in run.clips(part):
        clip = run.store.corpus.clips[i]
        clips[clip.id] = (clip.label, run.store.clip_hash(i))
    return clips


def clip_changes(part: str, old: Mapping, new: Mapping) -> Iterator[str]:
    """What differs between the clips of a part of the split, in the form that `Identity.clips` has them."""
    gone, added = _missing(old, new), _missing(new, old)
    if gone or added:
        counts = []
        if gone:
            counts.append(f"{len(gone)} gone: {name_some(gone, 3)}")
        if added:
            counts.append(f"{len(added)} new: {name_some(added, 3)}")
        yield f"{part} clips: {len(old)} -> {len(new)} ({'; '.join(counts)})"
    elif part == "train" and list(old) != list(new):
        yield "train clips: in another order"
    relabelled, altered = [], []
    for name in old.keys() & new.keys():
        if old[name][0] != new[name][0]:
            relabelled.append(name)
        if old[name][1] != new[name][1]:
            altered.append(name)
    if relabelled:
        first = min(relabelled)
        yield f"labels of {len(relabelled)} {part} clips: {first} was {old[first][0]} -> {new[first][0]}"
    if altered:
        first, names = min(altered), name_some(sorted(altered), 3)
        hashes = f"{old[first][1][:8]} -> {new[first][1][:8]}"
        yield f"content of {len(altered)} {part} clips ({names}): {hashes}"


def _missing(names: Iterable[str], others: Mapping) -> list[str]:
    """The names that the other side lacks, in their order."""
    return [name for name in names if name not in others]


def _files(run: Run) -> Iterator[tuple[str, str]]:
    """The name and the hash of everything else that the run reads."""
    if isinstance(run, InterpreterRun):
        yield "classifier", bundle_hash(run.subject.info)
        for name in ("reference", "start_from"):
            earlier = run_of_fold(run.values, name, run.folder)
            if earlier is not None:
                yield name, bundle_hash(read_facts(earlier / "interpreter", "interpreter"))
    content = parse(run.recipe.text, run.recipe.path)
    for path in named_paths(content):
        yield str(path), file_hash(path)
    for module in dict.fromkeys((*run.recipe.trust, *named_modules(content))):
        path = source_of(module)
        if path is not None and not _is_installed(path):
            yield f"module {module}", file_hash(path, "*.py")
    if run.values.get("train_noise") in FOLDER_KINDS:
        yield "noise_folder", folder_hash(run.values)


def bundle_hash(info: BundleInfo) -> str:
    """One hash of a bundle's weights and of the YAML that builds its network."""
    return hashlib.sha256(json.dumps(info.sha256, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path, pattern: str = "*") -> str:
    """Of a file, or of the files below a folder that match a pattern, with their names."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob(pattern)):
        if file.is_file():
            digest.update(f"{file.relative_to(path).as_posix()} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def folder_hash(values: Mapping) -> str:
    """Of the sound files of a recipe's `noise_folder` and their names. Hashes are remembered beside the clips'."""
    folder, cache = Path(values["noise_folder"]), Path(values["cache_folder"])
    files = sound_files(folder)
    with exclusive_lock(cache / ".lock"):
        digests = HashMemo(cache / "hashes.json").digests(files, workers=1)
    combined = hashlib.sha256()
    for file, digest in zip(files, digests, strict=True):
        combined.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
    return combined.hexdigest()


def events_hash(run: Run) -> str:
    """Of what is known about the events in a run's clips: their times, and the test clips' events as sounds alone."""
    store = run.store
    combined = hashlib.sha256(store.corpus.events_hash.encode())
    if store.truth_folder is not None:
        for i in run.clips("test"):
            clip = store.corpus.clips[i]
            path = store.truth_folder / clip.path.name
            if path.is_file():
                combined.update(f"{clip.id} {file_hash(path)}\n".encode())
    return combined.hexdigest()


def sources_hash(run: Run) -> str:
    """Of the known sources of a run's test clips."""
    combined = hashlib.sha256()
    for i in run.clips("test"):
        clip = run.store.corpus.clips[i]
        for label, path in zip(clip.labels, clip.sources, strict=False):
            if path is not None:
                combined.update(f"{clip.id} {label} {file_hash(path)}\n".encode())
    return combined.hexdigest()


def named_paths(value: object, key: str = "") -> Iterator[Path]:
    """The files that a recipe's blocks read, such as weights and checkpoints; `weights` may be a folder, too."""
    if isinstance(value, Tagged):
        value = value.value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from named_paths(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from named_paths(inner, key)
    elif isinstance(value, str) and value and key not in OWN_PATHS:
        path = Path(value)
        try:
            if path.is_file() or (key == "weights" and path.is_dir()):
                yield path
        except OSError:  # too long to be a path
            return


def named_modules(value: object) -> Iterator[str]:
    """The modules of what a recipe builds, such as "my_schedules" of `!name:my_schedules.Stairs`."""
    if isinstance(value, Tagged):
        kind, _, name = value.tag.partition(":")
        if kind in ("new", "name", "apply") and "." in name:
            yield name.rpartition(".")[0]
        value = value.value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from named_modules(inner)


def _is_installed(path: Path) -> bool:
    """Whether a module is of this project, of Python or of an installed package: its versions are not a run's own."""
    folders = [ROOT / package for package in PACKAGES]
    for kind in ("stdlib", "platstdlib", "purelib", "platlib"):
        folders.append(Path(sysconfig.get_path(kind)))
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


OWN_PATHS = (
    "experiment",
    "output_folder",
    "data_folder",
    "cache_folder",
    "noise_folder",
    "classifier",
    "reference",
    "start_from",
    "audio",
    "target",
    "trust",
)
"""Keys whose paths `named_paths` leaves alone: what lies there is hashed by what it is, or is not read by training."""


def source_of(module: str) -> Path | None:
    """The file of a module, or the folder of a package, `__init__.py` or not; None where it is not there."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin)
