"""The open document: what of the state a scene file keeps, and a journal for the case of a crash."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import platformdirs

from ..core.appearance import Appearance
from ..core.edits.layers import Stack
from ..core.errors import InputError
from ..core.measure import Measurement
from ..core.streaming.contracts import MemoryBudget
from ..scenes.edit_sections import AppearanceSpec
from ..scenes.paths import SCENE_ENDINGS, absolute, is_shipped, relocated
from ..scenes.save import save_scene
from ..scenes.schema import SceneSpec, scene_from_mapping
from ..scenes.yaml_file import read_yaml
from .file_lock import lock
from .recent import APP
from .state import ViewerState

if TYPE_CHECKING:
    from ..scenes.load import Scene

EVERY = 1.0  # seconds between two journals at least; half of what a crash may cost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a user makes of a scene; fields are named as in the state."""

    appearance: Appearance
    styles: tuple[tuple[str, Appearance], ...]
    edits: Stack  # paths are absolute
    measurements: tuple[Measurement, ...]
    memory: MemoryBudget = field(default_factory=MemoryBudget)

    @classmethod
    def of(cls, state: ViewerState) -> Work:
        """Returns the part of a state that is kept."""
        return cls(state.appearance, state.styles, state.edits, state.measurements, state.memory)

    @classmethod
    def in_file(cls, spec: SceneSpec, source: Path) -> Work:
        """Returns what the scene file `source` holds."""
        layers = absolute(spec, source).edits
        look = spec.appearance
        return cls(look.start, look.styles, layers, spec.measurements, spec.memory)

    def is_same(self, other: Work) -> bool:
        """Whether a file would hold the same; it does not hold the uids of layers."""
        if len(self.edits) != len(other.edits) or self != replace(other, edits=self.edits):
            return False
        pairs = zip(self.edits, other.edits, strict=True)
        return all(mine == its or mine == replace(its, uid=mine.uid) for mine, its in pairs)


class Document:
    """A scene file and what it holds."""

    def __init__(self, spec: SceneSpec, source: Path) -> None:
        """Takes what was read from `source`, a scene file or a checkpoint without one."""
        self._spec, self._source = spec, source.expanduser().absolute()
        self._saved = Work.in_file(spec, self._source)
        self._is_file = source.suffix.lower() in SCENE_ENDINGS and not is_shipped(source)
        self._stamp = _stamp(self._source)

    @classmethod
    def of(cls, scene: Scene) -> Document:
        """Returns the document of a scene that was opened."""
        return cls(scene.spec, scene.source)

    @property
    def path(self) -> Path | None:
        """The scene file; None: there is none yet that may be written."""
        return self._source if self._is_file else None

    @property
    def suggestion(self) -> Path:
        """Where to save if the user has no better idea."""
        if self._is_file:
            return self._source
        shipped = is_shipped(self._source)
        folder = platformdirs.user_documents_path() if shipped else self._source.parent
        own = self._source.parent.name if self._source.stem == "scene" else self._source.stem
        return folder / f"{own}.yaml"

    @property
    def key(self) -> str:
        """Tells the scene from others in names of journals."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self._source))).hexdigest()[:16]

    def is_dirty(self, state: ViewerState) -> bool:
        """Whether the state holds something that the scene file does not."""
        return self.is_new(Work.of(state))

    def is_new(self, work: Work) -> bool:
        """Whether the scene file would change if the work was saved."""
        return not work.is_same(self._saved)

    def spec_for(self, work: Work, target: Path) -> SceneSpec:
        """Returns the scene of the file `target`: as it was opened, with the user's work."""
        spec = replace(
            self._spec,
            appearance=AppearanceSpec(work.appearance, work.styles),
            edits=work.edits,
            measurements=work.measurements,
            memory=work.memory,
        )
        return relocated(spec, self._source, target)

    def save(self, state: ViewerState, path: Path) -> Path:
        """Writes a scene file, whole or not at all, and goes on with it; returns its absolute path.

        Raises:
            InputError: The file must not or cannot be written.
        """
        path = path.expanduser().absolute()
        if path.suffix.lower() not in SCENE_ENDINGS:
            raise InputError(f"a scene file must end in .yaml, got {path.name}; choose another name")
        if is_shipped(path):
            raise InputError(f"shipped scenes must stay as they are, got {path}; save elsewhere")
        if path == self._source and _stamp(path) not in (self._stamp, None):
            raise InputError(f"{path} must be as it was opened, got a newer one; save under another name")
        work = Work.of(state)
        spec = self.spec_for(work, path)
        save_scene(path, spec)
        self._spec, self._source, self._saved, self._is_file = spec, path, work, True
        self._stamp = _stamp(path)
        return path


def _stamp(path: Path) -> tuple[int, int] | None:
    """Returns what changes when somebody writes a file; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True)
class Recovered:
    """What a program that ended unexpectedly had not saved."""

    work: Work
    when: datetime  # it was written last


class Journal:
    """Keeps the unsaved work of one document on disk, so that a crash costs at most the last two seconds.

    A journal is a scene file of its own beside a lock that its process holds. The system takes the lock away
    however the process ends: whoever then can have it has found what a crash left.
    """

    def __init__(self, document: Document, folder: Path | None = None, every: float = EVERY) -> None:
        """`folder` holds the journals of all documents; `every` seconds lie between two writes at least."""
        self._document = document
        self._folder = folder or platformdirs.user_state_path(APP) / "recovery"
        self._every = every
        self._condition = threading.Condition()
        self._noted: Work | None = None  # newest; None: nothing since `discard`
        self._wanted: Work | None = None  # still to be written
        self._has_thread = self._is_writing = False
        self._entry: _Entry | None = None  # on disk
        self._found: list[_Entry] = []  # what crashes left

    def note(self, state: ViewerState) -> None:
        """Takes note of the present state, which is written soon where it is not saved."""
        work = Work.of(state)
        if not self._document.is_new(work):
            if self._noted is not None:
                self.discard()
            return
        if work == self._noted:
            return
        with self._condition:
            self._noted = self._wanted = work
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._write_all, name="journal", daemon=True).start()

    def flush(self) -> None:
        """Waits until what was noted is on disk."""
        with self._condition:
            self._condition.wait_for(lambda: self._wanted is None and not self._is_writing)

    def discard(self) -> None:
        """Removes the journal and what `find` has found: all is saved, or shall be lost."""
        with self._condition:
            self._wanted = self._noted = None
            self._condition.wait_for(lambda: not self._is_writing)
            for entry in (*self._found, *([self._entry] if self._entry else [])):
                entry.remove()
            self._found, self._entry = [], None

    def find(self) -> Recovered | None:
        """Returns what a crash left of the document and its file does not hold; of several the newest.

        It stays until `discard`, or until a state that was noted afterwards is on disk.
        """
        locks = self._folder.glob(f"{self._document.key}-*.lock")
        self._found = [entry for entry in map(_Entry, locks) if entry.take()]
        left = [recovered for entry in self._found if (recovered := self._read(entry.journal))]
        return max(left, key=lambda recovered: recovered.when, default=None)

    def _read(self, journal: Path) -> Recovered | None:
        if not journal.is_file():  # the process ended before it was complete
            return None
        try:
            when = datetime.fromtimestamp(int(journal.stat().st_mtime))
            spec = scene_from_mapping(read_yaml(journal), str(journal))
        except (InputError, OSError) as error:
            log.warning("the journal cannot be read: %s", error)
            return None
        work = Work.in_file(spec, journal)
        return Recovered(work, when) if self._document.is_new(work) else None

    def _write_all(self) -> None:
        """Writes what is noted until there is nothing more to write."""
        while True:
            with self._condition:
                work, self._wanted = self._wanted, None
                self._has_thread = self._is_writing = work is not None
            if work is None:
                return
            try:
                self._write(work)
            except (InputError, OSError) as error:
                log.warning("the journal cannot be written: %s", error)
            except Exception:
                log.exception("the journal cannot be written")
            finally:
                with self._condition:
                    self._is_writing = False
                    self._condition.notify_all()
            time.sleep(self._every)

    def _write(self, work: Work) -> None:
        before, entry = self._entry, self._entry
        if entry is None or entry.key != self._document.key:  # the document lies elsewhere now
            self._folder.mkdir(parents=True, exist_ok=True)
            entry = _Entry(self._folder / f"{self._document.key}-{secrets.token_hex(8)}.lock")
            entry.create()
        save_scene(entry.journal, self._document.spec_for(work, entry.journal))
        self._entry = entry
        for old in (*self._found, *([before] if before and before is not entry else [])):
            old.remove()
        self._found = []


class _Entry:
    """A journal on disk: a scene file and the lock that says whose it is."""

    def __init__(self, path: Path) -> None:
        self._path = path  # of the lock
        self._lock: IO[bytes] | None = None

    @property
    def journal(self) -> Path:
        """The scene file."""
        return self._path.with_suffix(".yaml")

    @property
    def key(self) -> str:
        """Of the document."""
        return self._path.name.partition("-")[0]

    def create(self) -> None:
        """Makes the lock and takes it."""
        self._path.touch()
        self.take()

    def take(self) -> bool:
        """Takes the lock; False: a living process has it, or has removed it."""
        try:
            file = self._path.open("rb")
        except OSError:
            return False
        try:
            lock(file)
        except OSError:
            file.close()
            return False
        self._lock = file
        return True

    def remove(self) -> None:
        """Deletes what is on disk, the lock last and when it is let go: Windows keeps files that are open."""
        try:
            for path in (*self._path.parent.glob(f".{self.journal.name}*"), self.journal):
                path.unlink(missing_ok=True)
            if self._lock is not None:
                self._lock.close()
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a journal cannot be removed: %s", error)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None
