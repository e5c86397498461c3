"""The document and its journal: what a save writes, and what a kill at any moment leaves."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.edits.layers import Copy, Layer, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.measure import MeasureKind, Measurement
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.schema import scene_from_mapping
from landmark_viewer.scenes.shipped import demo_scene_path
from landmark_viewer.scenes.yaml_file import read_yaml
from landmark_viewer.viewer import document, file_lock
from landmark_viewer.viewer.document import EVERY, Document, Journal, Recovered, Work
from landmark_viewer.viewer.state import ViewerState

from .synthetic import write

TEXT = """
version: 1
name: City
model: {checkpoint: city.th, n_importance: 32}
appearance: {code: 1, styles: {dawn: 1, dusk: 4}}
frame: {metres_per_unit: 10}
camera: {eye: [0, -1, 1], target: [0, 0, 0]}
background: white
"""


SQUARE = Region.rectangle(0, 0, 1, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns a scene file beside its checkpoint."""
    folder = tmp_path / "city"
    write(folder, embedding=5).rename(folder / "city.th")
    (folder / "scene.yaml").write_text(TEXT)
    return folder / "scene.yaml"


def removal(uid: int = 1, name: str = "Tower") -> Layer:
    return Remove(uid, name, prism=Prism(Region.rectangle(0, 0, 0.1, 0.2), 0.0, 0.3))


def opened(document: Document, path: Path) -> ViewerState:
    """Returns the state that a scene opens with."""
    scene = open_scene(path)
    start = scene.spec.appearance
    return ViewerState(
        appearance=start.start,
        styles=start.styles,
        edits=scene.edits,
        measurements=scene.spec.measurements,
        memory=scene.spec.memory,
    )


def worked(state: ViewerState) -> ViewerState:
    """Returns a state in which the user has changed all that can be."""
    return replace(
        state,
        appearance=Appearance.mixed({0: 0.25, 3: 0.75}),
        styles=(*state.styles, ("mine", Appearance.of(2))),
        edits=(
            *state.edits,
            removal(7),
            Copy(9, prism=Prism(Region.rectangle(0, 0, 1, 1)), source=Path("/x/y.th")),
        ),
        measurements=(Measurement(MeasureKind.HEIGHT, ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), (0.5, 0.25)),),
        memory=MemoryBudget(device=3_000_000_000, detail=1.5, neighbour_size=5),
    )


def document_of(path: Path) -> tuple[Document, ViewerState]:
    document = Document.of(open_scene(path))
    return document, opened(document, path)


# Saving


def test_a_saved_scene_opens_with_all_that_was_made_and_all_that_it_said(path):
    document, state = document_of(path)
    before = open_scene(path)
    assert not document.is_dirty(state)
    state = worked(state)
    assert document.is_dirty(state)
    assert document.save(state, document.path) == path
    assert not document.is_dirty(state)
    scene = open_scene(path)
    assert Work.in_file(scene.spec, path).is_same(Work.of(state))
    assert scene.edits[1].source == Path("/x/y.th")
    others = replace(scene.spec, appearance=before.spec.appearance, edits=(), measurements=())
    assert replace(others, memory=before.spec.memory) == before.spec
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["city.th", "scene.yaml"]


def test_only_what_a_file_would_hold_makes_a_document_dirty(path):
    document, state = document_of(path)
    assert not document.is_dirty(replace(state, edits_shown=False, layer=3, speed=2.0))
    document.save(replace(state, edits=(removal(1),)), path)
    assert not document.is_dirty(replace(state, edits=(removal(8),)))  # another uid is no change
    assert document.is_dirty(replace(state, edits=(removal(1, "Hall"),)))
    assert document.is_dirty(state)


def test_the_checkpoint_is_never_touched(path):
    checkpoint = path.parent / "city.th"
    before = checkpoint.read_bytes(), checkpoint.stat().st_mtime_ns
    document, state = document_of(path)
    document.save(worked(state), path)
    for name in ("city.th", "other.npz", "scene"):
        with pytest.raises(
            InputError, match=rf"^a scene file must end in \.yaml, got {name}; choose another"
        ):
            document.save(worked(state), path.with_name(name))
    assert (checkpoint.read_bytes(), checkpoint.stat().st_mtime_ns) == before


def test_saved_elsewhere_the_scene_leads_to_the_same_model(path, tmp_path):
    document, state = document_of(path)
    elsewhere = tmp_path / "far" / "away" / "mine.yaml"
    document.save(worked(state), elsewhere)
    assert document.path == elsewhere
    assert read_yaml(elsewhere)["model"]["checkpoint"] == "../../city/city.th"
    assert path.read_text() == TEXT
    scene = open_scene(elsewhere)
    assert [file.resolve() for file in scene.opened.files] == [path.parent / "city.th"]
    document.save(state, tmp_path / "near.yaml")  # from where it now lies, to a third place
    assert read_yaml(tmp_path / "near.yaml")["model"]["checkpoint"] == "city/city.th"


def test_a_bare_checkpoint_has_no_file_until_it_is_saved_as_one(path, tmp_path):
    checkpoint = path.parent / "city.th"
    path.unlink()
    (path.parent / "config.txt").write_text("n_importance = 7\nsampling_opt = 1\n")
    before = open_scene(checkpoint)
    assert before.model.settings.n_importance == 7
    document = Document.of(before)
    assert document.path is None
    assert document.suggestion == path.parent / "city.yaml"
    document.save(ViewerState(edits=(removal(),)), document.suggestion)
    after = open_scene(document.path)
    assert after.model.settings == before.model.settings  # also those of the config beside the checkpoint
    assert after.edits == (removal(),)


def test_a_shipped_scene_is_never_overwritten(tmp_path):
    document, state = document_of(demo_scene_path())
    assert document.path is None
    assert not document.suggestion.is_relative_to(demo_scene_path().parent)
    before = demo_scene_path().read_bytes()
    for name in ("scene.yaml", "new.yaml"):
        with pytest.raises(
            InputError, match=r"^shipped scenes must stay as they are, got .*; save elsewhere$"
        ):
            document.save(worked(state), demo_scene_path().with_name(name))
    assert demo_scene_path().read_bytes() == before
    document.save(worked(state), tmp_path / "town.yaml")
    shutil.move(tmp_path / "town.yaml", tmp_path.parent / "moved.yaml")
    assert open_scene(tmp_path.parent / "moved.yaml").name == "Town"  # its checkpoint is named in full


def test_a_file_that_another_program_has_changed_is_not_overwritten(path):
    document, state = document_of(path)
    path.write_text(TEXT.replace("name: City", "name: Town"))
    with pytest.raises(InputError, match=r"must be as it was opened, got a newer one; save "):
        document.save(worked(state), path)
    assert open_scene(path).name == "Town"
    document.save(worked(state), path.with_name("mine.yaml"))
    document.save(state, document.path)  # its own changes are no others'
    path.with_name("mine.yaml").unlink()
    document.save(worked(state), document.path)  # nothing is there that could be lost
    assert open_scene(document.path).name == "City"


def test_a_failed_save_leaves_the_file_and_the_document_as_they_were(path):
    document, state = document_of(path)
    (path.parent / "taken.yaml").mkdir()
    with pytest.raises(InputError, match=r"taken\.yaml must be writable"):
        document.save(worked(state), path.parent / "taken.yaml")
    assert document.path == path
    assert path.read_text() == TEXT
    assert document.is_dirty(worked(state))
    assert not document.is_dirty(state)


# The journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recovery"


def crash(journal: Journal) -> None:
    """Lets go of the lock as the system does when a process ends."""
    journal.flush()
    journal._entry._lock.close()


def found(path: Path, folder: Path) -> Recovered | None:
    return Journal(Document.of(open_scene(path)), folder).find()


def test_a_crash_leaves_the_work_that_was_not_saved(path, folder):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(worked(state))
    journal.flush()
    assert found(path, folder) is None  # the program that writes it lives
    crash(journal)
    recovered = found(path, folder)
    assert recovered.work.is_same(Work.of(worked(state)))
    assert recovered.work.edits[1].source == Path("/x/y.th")
    (file,) = folder.glob("*.yaml")
    assert recovered.when.timestamp() == int(file.stat().st_mtime)
    scene = open_scene(file)  # a journal is a scene file
    assert (scene.name, scene.edits) == ("City", recovered.work.edits)


def test_what_is_saved_or_closed_leaves_no_journal(path, folder):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(state)
    assert not folder.exists()
    journal.note(worked(state))
    journal.flush()
    assert len(list(folder.iterdir())) == 2
    document.save(worked(state), path)
    journal.note(worked(state))
    assert list(folder.iterdir()) == []
    journal.note(state)
    journal.flush()
    assert len(list(folder.iterdir())) == 2
    journal.discard()
    assert list(folder.iterdir()) == []


def test_undoing_everything_leaves_no_journal(path, folder):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(worked(state))
    journal.flush()
    journal.note(state)
    assert list(folder.iterdir()) == []


def test_what_a_crash_left_stays_until_it_is_discarded_or_in_the_next_journal(path, folder):
    document, state = document_of(path)
    lost = Journal(document, folder)
    lost.note(worked(state))
    crash(lost)
    offered = Journal(Document.of(open_scene(path)), folder)
    recovered = offered.find()
    assert found(path, folder) is None  # it is offered once
    restored = replace(
        state,
        appearance=recovered.work.appearance,
        styles=recovered.work.styles,
        edits=recovered.work.edits,
        measurements=recovered.work.measurements,
    )
    offered.note(restored)
    offered.flush()
    assert len(list(folder.glob("*.yaml"))) == 1
    crash(offered)
    again = Journal(Document.of(open_scene(path)), folder)
    assert again.find().work.is_same(Work.of(restored))
    again.discard()
    assert list(folder.iterdir()) == []


def test_the_newest_of_several_crashes_is_offered_and_broken_ones_are_not(path, folder):
    for number, name in enumerate(("first", "second", "third")):
        document, state = document_of(path)
        journal = Journal(document, folder)
        journal.note(replace(state, edits=(removal(1, name),)))
        crash(journal)
        newest = max(folder.glob("*.yaml"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, (1e9 + number, 1e9 + number))
        if name == "third":
            newest.write_text("version: 1\nedits: [{kind: rem")
    journal = Journal(Document.of(open_scene(path)), folder)
    assert [layer.name for layer in journal.find().work.edits] == ["second"]
    journal.discard()
    assert list(folder.iterdir()) == []


def test_a_journal_of_what_is_saved_already_is_not_offered(path, folder):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(worked(state))
    crash(journal)  # after the file was written, before the journal was removed
    document.save(worked(state), path)
    assert found(path, folder) is None


def test_scenes_do_not_get_the_journals_of_others(path, folder):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(worked(state))
    crash(journal)
    other = path.with_name("other.yaml")
    other.write_text(TEXT)
    assert found(other, folder) is None
    (path.parent / "link").symlink_to(path.parent)
    assert found(path.parent / "link", folder) is not None  # the same scene by another name


def test_the_journal_follows_a_document_to_its_new_file(path, folder, tmp_path):
    document, state = document_of(path)
    journal = Journal(document, folder)
    journal.note(replace(state, edits=(removal(1, "Hall"),)))
    journal.flush()
    document.save(replace(state, edits=(removal(1, "Hall"),)), tmp_path / "mine.yaml")
    journal.note(worked(state))
    crash(journal)
    assert found(path, folder) is None
    assert found(tmp_path / "mine.yaml", folder).work.is_same(Work.of(worked(state)))
    assert len(list(folder.iterdir())) == 2


def test_a_drag_costs_one_journal_in_a_while_and_none_is_late(path, folder, monkeypatch):
    waits: list[float] = []
    written: list[Work] = []
    monkeypatch.setattr("landmark_viewer.viewer.document.time.sleep", waits.append)
    document, state = document_of(path)
    original = Journal._write

    def write(self: Journal, work: Work) -> None:
        if not written:  # the user goes on while the first one is being written
            for number in range(100):
                self.note(replace(state, edits=(removal(1, str(number)),)))
        written.append(work)
        original(self, work)

    monkeypatch.setattr(Journal, "_write", write)
    journal = Journal(document, folder)
    journal.note(worked(state))
    journal.flush()
    assert [work.edits[-1].name for work in written] == ["", "99"]
    assert waits[0] == EVERY <= 1.0  # with the time to write it stays below two seconds


def test_a_folder_that_cannot_be_written_costs_the_journal_only(path, tmp_path, caplog):
    (tmp_path / "file").touch()
    document, state = document_of(path)
    journal = Journal(document, tmp_path / "file" / "recovery")
    journal.note(worked(state))
    journal.flush()
    assert "the journal cannot be written" in caplog.text
    journal.discard()
    assert document.save(worked(state), path) == path


# Real processes, killed

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from landmark_viewer.core.edits.layers import Hide, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.scenes.schema import scene_from_mapping
from landmark_viewer.scenes.yaml_file import read_yaml
from landmark_viewer.viewer.document import Document, Journal
from landmark_viewer.viewer.state import ViewerState

what, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
document = Document(scene_from_mapping(read_yaml(path), str(path)), path)
journal = Journal(document, folder, every=0.0)
region = Region.rectangle(0, 0, 1, 1)
for number in range(1, 10**6):
    layers = tuple(Hide(uid, str(number), prism=Prism(region)) for uid in range(1, 40))
    state = ViewerState(edits=layers)
    if what == "save":
        document.save(state, path)
    else:
        journal.note(state)
        journal.flush()
    print(number, flush=True)
"""


def killed(what: str, path: Path, folder: Path, after: int) -> int:
    """Runs a program that goes on and on, kills it after some rounds, and returns the last complete one."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, str(path), str(folder)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(after):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()  # rounds that it finished before it was hit
    assert process.wait() == -signal.SIGKILL
    return int(rest[-1]) if rest else after


@pytest.mark.parametrize("after", [1, 2, 7])
def test_a_killed_process_loses_nothing_that_was_written(path, folder, after):
    last = killed("note", path, folder, after)
    journal = Journal(Document.of(open_scene(path)), folder)
    recovered = journal.find()
    names = {layer.name for layer in recovered.work.edits}
    assert len(recovered.work.edits) == 39
    assert names in ({str(last)}, {str(last + 1)})  # whole, and the newest or the one under way
    assert path.read_text() == TEXT
    journal.discard()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("after", [1, 3, 8])
def test_a_scene_file_is_the_old_or_the_new_one_whenever_its_writer_is_killed(path, folder, after):
    last = killed("save", path, folder, after)
    layers = scene_from_mapping(read_yaml(path), str(path)).edits
    assert len(layers) == 39
    assert {layer.name for layer in layers} in ({str(last)}, {str(last + 1)})
    document = Document.of(open_scene(path))
    document.save(ViewerState(edits=layers), path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["city.th", "scene.yaml"]


@pytest.mark.parametrize("moment", ["write", "flush", "fsync", "replace"])
def test_a_kill_in_the_middle_of_a_save_leaves_the_old_file(path, tmp_path, moment):
    program = f"""
import io, os, signal, sys
from pathlib import Path
from landmark_viewer.core import whole_file
from landmark_viewer.core.edits.layers import Hide, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.scenes.schema import scene_from_mapping
from landmark_viewer.scenes.yaml_file import read_yaml
from landmark_viewer.viewer.document import Document
from landmark_viewer.viewer.state import ViewerState

path = Path(sys.argv[1])
document = Document(scene_from_mapping(read_yaml(path), str(path)), path)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Half(io.FileIO):
    def write(self, data):
        super().write(data[: len(data) // 2])
        if "{moment}" == "write":
            die()
        return super().write(data[len(data) // 2 :])
    def flush(self):
        if "{moment}" == "flush":
            die()

if "{moment}" in ("write", "flush"):
    Path.open = lambda self, mode="r": Half(self, mode)
if "{moment}" == "fsync":
    os.fsync = die
if "{moment}" == "replace":
    Path.replace = die
document.save(ViewerState(edits=(Hide(1, prism=Prism(Region.rectangle(0, 0, 1, 1))),)), path)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_text() == TEXT
    document, state = document_of(path)
    document.save(worked(state), path)  # what was left in the way is no hindrance
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["city.th", "scene.yaml"]


def test_the_lock_of_windows_is_taken_once_and_let_go_with_the_file(tmp_path, monkeypatch):
    held = set()

    def locking(descriptor, mode, n_bytes):
        assert (mode, n_bytes) == (2, 1)
        at = os.fstat(descriptor).st_ino
        if at in held:
            raise PermissionError(13, "Permission denied")
        held.add(at)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setitem(sys.modules, "fcntl", None)  # it cannot be imported
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("file_lock_of_windows", file_lock.__file__)
    windows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(windows)
    path = tmp_path / "a.lock"
    path.touch()
    with path.open("rb") as first, path.open("rb") as second:
        windows.lock(first)
        with pytest.raises(OSError, match="denied"):
            windows.lock(second)


def test_a_journal_is_removed_when_its_lock_is_closed_and_not_before(tmp_path, monkeypatch):
    entry = document._Entry(tmp_path / "key-1.lock")
    entry.create()
    entry.journal.touch()
    file, unlink = entry._lock, Path.unlink
    closed = {}

    def note(path, missing_ok=False):
        closed[path.name] = file.closed
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    entry.remove()
    assert closed == {"key-1.yaml": False, "key-1.lock": True}  # Windows removes no open file
    assert list(tmp_path.iterdir()) == []
