"""The viewer's run without its window: real threads, a renderer that paints one colour."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Hide, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.measure import MeasureKind
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.cuda.ops import BackendStatus
from landmark_viewer.cuda.tables import FrameBuffers, Quality, RenderControl
from landmark_viewer.viewer import app, keeper, measuring, opening
from landmark_viewer.viewer.commands import (
    AddLayer,
    CompareWithAppearance,
    Home,
    RemoveLayer,
    SetAppearance,
    SetCompareMode,
    SetDraft,
    SetLayer,
    SetMode,
    SetPose,
    SetTool,
    ShowMessage,
    ToggleEdits,
)
from landmark_viewer.viewer.events import EventLog, read_events, since_start
from landmark_viewer.viewer.keeper import CANCEL, DISCARD, FORGET, RESTORE, SAVE, PathWanted
from landmark_viewer.viewer.measuring import Corner
from landmark_viewer.viewer.opening import Loaded
from landmark_viewer.viewer.pictures import Picture
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.session import INFO_SECONDS, Session
from landmark_viewer.viewer.state import CompareMode, Message, Mode, Navigation, Pose, Tool, ViewerState

SIZE = (64, 48)


class FlatRenderer:
    """Paints everything grey at the distance 1."""

    stream = None
    tables = SimpleNamespace(aabb=torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.5]]), division=(2, 2))
    backend_status = BackendStatus("made up", "")

    def render(self, camera, settings=None, control=None, buffers=None):
        settings = settings or RenderSettings()
        control = control or RenderControl(camera.width, camera.height)
        buffers = buffers or FrameBuffers.empty(camera.width, camera.height)
        buffers.rgb.fill_(0.5)
        buffers.opacity.fill_(1.0)
        buffers.median_depth.fill_(1.0)
        return Frame(camera, buffers, settings.quality, not control.is_cancelled)


class FlatCompiler:
    """Compiles any stack at once, into nothing that a picture shows; a layer called "broken" is refused."""

    terrain = None
    has_drafts = False

    def compile(self, layers):
        if any(layer.name == "broken" for layer in layers):
            raise InputError("broken: this layer cannot be applied")
        return CompiledEdits(layers, None, None, None) if layers else None

    def preparations(self, x, y):
        return iter(())


class FlatDocument:
    """Remembers the edits that it was given to save."""

    path = None
    suggestion = Path("city.yaml")

    def __init__(self):
        self.saved = ()

    def is_dirty(self, state):
        return state.edits != self.saved

    def save(self, state, path):
        if path.name == "locked.yaml":
            raise InputError("locked.yaml must be writable, it is not")
        self.saved, self.path = state.edits, path
        return path


class FlatJournal:
    """Remembers what it is told; a crash left what the test says."""

    found = None

    def __init__(self):
        self.noted, self.discarded = [], 0

    def find(self):
        return self.found

    def note(self, state):
        self.noted.append(state.edits)

    def discard(self):
        self.discarded += 1

    def flush(self):
        self.is_flushed = True


@pytest.fixture
def session(scene_facts, tmp_path, monkeypatch):
    """A session that opens a made-up city whatever it is asked to open, but not `bad.th`."""

    def load(path, overrides=()):
        if path.name == "bad.th":
            raise InputError("bad.th must be a checkpoint, got nothing")
        facts = replace(scene_facts, path=path, name=path.stem)
        plan = np.zeros((4, 4, 4), np.uint8)
        scene = SimpleNamespace(model=SimpleNamespace(near_far=(0.1, 10.0)))
        return Loaded(facts, FlatRenderer(), (0.0, 0.0, 0.0), (), plan, scene, FlatCompiler(), None)

    monkeypatch.setattr(opening, "load", load)
    monkeypatch.setattr(FlatJournal, "found", None)
    monkeypatch.setattr(keeper, "open_document", lambda scene: (FlatDocument(), FlatJournal()))
    events = EventLog(tmp_path / "events.jsonl")
    made = Session(ViewerState(), events, lambda: None)
    yield made
    assert made.close()
    events.close()


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the start, as a list of one; for the session they pass when the test says so."""
    now = [since_start()]
    monkeypatch.setattr("landmark_viewer.viewer.session.since_start", lambda: now[0])
    return now


def run(session, until, seconds=20.0):
    """Turns the main loop until a condition holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it took too long"
        now = since_start()
        session.advance(now)
        session.ask(SIZE, now)
        session.take_picture()
        time.sleep(0.002)


def open_city(session, name="city.yaml"):
    """Opens a scene and waits for its finished picture."""
    session.open(Path(name))
    run(session, lambda: session.state.opening is None)
    run(session, lambda: session.picture is not None and session.picture.finished)


def test_an_opened_scene_is_shown_and_comes_to_rest(session):
    open_city(session)
    assert session.state.scene.name == "city"
    assert session.state.status.finished
    assert session.state.status.backend == "made up"
    run(session, session.came_to_rest)
    assert not session.came_to_rest()


def test_a_scene_that_does_not_open_leaves_the_other_one(session):
    open_city(session)
    session.open(Path("bad.th"))
    run(session, lambda: session.state.opening is None)
    assert session.state.message.severity == "error"
    assert "bad.th" in session.state.message.text
    assert session.state.scene.name == "city"
    session.submit(SetPose(replace(session.state.pose, yaw=1.0)))
    run(session, lambda: session.picture.camera.c2w == session.state.pose.camera(*SIZE).c2w)


def test_the_second_scene_replaces_the_first(session):
    open_city(session)
    session.submit(SetMode(Mode.DEPTH))
    open_city(session, "other.yaml")
    assert session.state.scene.name == "other"
    assert not session.history.can_undo


def test_the_scene_that_was_asked_for_last_wins(session):
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        session.open(Path(name))
    run(session, lambda: session.state.scene is not None and session.state.opening is None)
    run(session, lambda: session.picture is not None)
    assert session.state.scene.name == "c"


def test_moving_shows_coarse_pictures_and_rest_the_exact_one(session):
    open_city(session)
    session.submit(SetPose(replace(session.state.pose, yaw=0.5)))
    run(session, lambda: session.picture.moving)
    run(session, lambda: session.picture.finished)
    assert session.picture.scale == 1.0


def test_other_colours_are_shown_at_once_like_a_move_and_then_exact(session):
    open_city(session)
    run(session, lambda: session.picture.finished)
    asked, desk = [], session.desk
    submit = desk._worker.submit
    desk._worker.submit = lambda request: (asked.append(request), submit(request))
    session.submit(SetAppearance(Appearance.of(2)))
    run(session, lambda: session.picture.request.appearance == Appearance.of(2) and session.picture.finished)
    assert [request.moving for request in asked] == [True, False]
    asked.clear()
    session.submit(SetAppearance(Appearance(((2, 1.0),), grade=Grade(exposure=1.0))))
    run(session, lambda: session.picture.request.appearance.grade.exposure == 1.0)
    assert [request.moving for request in asked] == [False]  # its pixels are there


def drawn(request) -> Picture:
    """Some picture that answers a request."""
    size = request.camera.height, request.camera.width
    image, depth = np.full((*size, 4), 255, np.uint8), np.ones(size, np.float32)
    return Picture(image, depth, request.camera, request, Quality.FAST, 1.0, 0.0, False, 1.0, since_start())


def test_where_both_need_the_processor_the_next_picture_waits_until_the_last_one_is_taken(session):
    open_city(session)
    session.desk._takes_turns = True
    asked = []
    session.desk._worker.submit = asked.append
    pose = session.state.pose
    for yaw in (0.1, 0.2, 0.3):
        session.submit(SetPose(replace(pose, yaw=yaw)))
        session.ask(SIZE, since_start())
    assert len(asked) == 1
    session.desk.note_drawing(0.01)  # of an older picture
    session.ask(SIZE, since_start())
    assert len(asked) == 1
    worker = session.desk._worker
    worker.take = lambda: drawn(asked[0])
    session.take_picture()
    session.ask(SIZE, since_start())
    assert [request.camera for request in asked] == [
        replace(pose, yaw=yaw).camera(*SIZE) for yaw in (0.1, 0.3)
    ]


def test_a_picture_that_is_still_to_begin_makes_way_for_a_newer_one(session, monkeypatch):
    open_city(session)
    session.desk._takes_turns = True
    asked = []
    session.desk._worker.submit = asked.append
    monkeypatch.setattr(RenderWorker, "can_take_another", True)
    cameras = []
    for yaw in (0.1, 0.2):
        session.submit(SetPose(replace(session.state.pose, yaw=yaw)))
        session.ask(SIZE, since_start())
        cameras.append(session.state.pose.camera(*SIZE))
    assert [request.camera for request in asked] == cameras


def test_pictures_of_a_glide_know_the_way(session, clock):
    open_city(session)
    session.submit(SetPose(replace(session.state.pose, yaw=1.5)))
    asked = []
    session.desk._worker.submit = asked.append
    session.submit(Home())
    session.ask(SIZE, clock[0])
    assert asked[-1].course.camera_in(60.0) == session.state.pose.camera(*SIZE)
    assert asked[-1].camera != session.state.pose.camera(*SIZE)


def test_home_glides_there_and_a_move_stops_the_glide(session, clock):
    open_city(session)
    home = session.state.pose
    session.submit(SetPose(replace(home, yaw=1.5)))
    away = session.state.pose
    session.submit(Home())
    assert session.state.pose == home
    clock[0] += 0.05
    between = session.shown.pose
    assert between not in (home, away)
    session.submit(SetPose(replace(session.shown.pose, fov_y=33.0)))
    assert session.shown.pose.fov_y == 33.0
    assert session.shown.pose.yaw != home.yaw


def test_undo_takes_back_where_the_glide_began(session):
    open_city(session)
    away = replace(session.state.pose, yaw=1.5)
    session.submit(SetPose(away))
    session.submit(Home())
    session.undo()
    assert session.shown.pose == away
    session.redo()
    assert session.state.pose == session.state.scene.home


def test_flying_enters_fly_mode_and_moves_with_time_not_with_calls(session):
    open_city(session)
    start = np.array(session.state.pose.eye)
    assert session.fly((0.0, 0.0, 1.0), False, False, 10.0)
    assert session.state.navigation is Navigation.FLY
    first = np.array(session.state.pose.eye)
    session.fly((0.0, 0.0, 1.0), False, False, 10.05)
    second = np.array(session.state.pose.eye)
    session.fly((0.0, 0.0, 1.0), False, False, 10.1)
    third = np.array(session.state.pose.eye)
    assert np.linalg.norm(first - start) > 0
    assert np.linalg.norm(third - second) == pytest.approx(np.linalg.norm(second - first), rel=0.3)
    assert not session.fly((0.0, 0.0, 0.0), False, False, 10.2)


def test_a_flight_is_one_step_of_the_history(session):
    open_city(session)
    start = session.state.pose
    for step in range(5):
        session.fly((1.0, 0.0, 0.0), False, False, 10.0 + 0.02 * step)
    session.undo()
    assert session.state.pose == start


def test_a_note_leaves_by_itself_and_an_error_stays(session):
    now = since_start()
    session.submit(ShowMessage("saved"))
    session.advance(now)
    session.advance(now + INFO_SECONDS + 1)
    assert session.state.message is None
    session.submit(ShowMessage("broken", "error"))
    session.advance(now + 20)
    session.advance(now + 100)
    assert session.state.message.text == "broken"


def test_picking_reads_the_depth_of_the_picture(session):
    open_city(session)
    picked = session.pick((SIZE[0] / 2, SIZE[1] / 2))
    assert picked.source == "surface"
    assert picked.depth == pytest.approx(1.0)


def test_a_copied_camera_is_pasted_again(session):
    open_city(session)
    there = Pose((0.1, -0.7, 0.4), yaw=0.3, pitch=-0.4, fov_y=40.0, distance=0.8)
    session.submit(SetPose(there))
    text = session.camera_text()
    assert json.loads(text)["width"] == SIZE[0]
    session.submit(Home())
    session.set_camera_text(text)
    assert session.state.pose.eye == pytest.approx(there.eye)
    assert session.state.pose.yaw == pytest.approx(there.yaw)
    assert session.state.pose.fov_y == pytest.approx(there.fov_y)


@pytest.mark.parametrize("text", ["", "hello", "[]", '{"c2w": 1}', "[1, 2]"])
def test_a_clipboard_without_a_camera_is_a_message(session, text):
    open_city(session)
    before = session.state.pose
    session.set_camera_text(text)
    assert session.state.message.severity == "warn"
    assert session.state.pose == before


def test_a_picture_is_saved_when_it_is_finished(session, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_PICTURES_DIR", str(tmp_path / "pictures"))
    open_city(session)
    session.submit(SetPose(replace(session.state.pose, yaw=0.5)))
    session.save_picture()
    run(session, lambda: session.state.message and session.state.message.text.startswith("Saved"))
    assert len(list((tmp_path / "pictures").rglob("city-*.png"))) == 1


def test_flying_to_a_block_looks_at_its_middle(session):
    open_city(session)
    session.fly_to_block(3)
    x, y, _ = session.state.pose.pivot
    assert (x, y) == pytest.approx((0.5, 0.5))


def test_only_what_changes_the_picture_is_logged_as_input(session, tmp_path):
    open_city(session)
    session.submit(ShowMessage("hello"))
    session.submit(SetMode(Mode.OPACITY))
    kinds = [event["kind"] for event in read_events(tmp_path / "events.jsonl") if event["event"] == "input"]
    assert kinds == ["SetMode"]


SHED = Hide(name="shed", prism=Prism(Region.rectangle(0.0, 0.0, 0.2, 0.2)))


def test_new_edits_are_shown_at_once_and_then_refined(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    run(session, lambda: session.picture.request.edits is not None)
    assert session.picture.moving
    run(session, lambda: session.picture.finished)
    assert session.picture.request.edits.layers == session.state.edits
    session.submit(ToggleEdits())
    run(session, lambda: session.picture.request.edits is None and session.picture.finished)
    session.undo()
    run(session, lambda: session.picture.request.edits is not None)


def test_a_layer_that_cannot_be_applied_is_a_message_and_the_rest_of_the_window_lives_on(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.submit(AddLayer(replace(SHED, name="broken")))
    run(session, lambda: session.state.message is not None)
    assert session.state.message == Message("broken: this layer cannot be applied", "error")
    run(session, session.came_to_rest)
    session.undo()
    run(session, lambda: session.picture.request.edits is not None and session.picture.finished)


def test_one_layer_is_undone_alone(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.submit(SetLayer(1, replace(SHED, name="hut")))
    session.submit(Home())
    session.undo_layer(1)
    assert [layer.name for layer in session.state.edits] == ["shed"]
    session.redo_layer(1)
    assert [layer.name for layer in session.state.edits] == ["hut"]


def test_an_unsaved_change_is_marked_until_it_is_saved_or_undone(session, tmp_path):
    open_city(session)
    assert not session.state.dirty
    session.submit(AddLayer(SHED))
    assert session.state.dirty
    session.undo()
    assert not session.state.dirty
    session.redo()
    session.keeper.save_as(session.state, tmp_path / "mine.yaml")
    assert not session.state.dirty
    assert session.state.scene.path == session.state.recent[0] == tmp_path / "mine.yaml"
    assert session.state.message.text == "Saved mine.yaml"
    assert session.history.can_undo


def test_a_scene_without_a_file_of_its_own_is_saved_elsewhere_the_first_time(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.keeper.save(session.state)
    assert session.keeper.asking == PathWanted(Path("city.yaml"))
    session.keeper.save_as(session.state, Path("mine.yaml"))
    session.submit(RemoveLayer(1))
    session.keeper.save(session.state)
    assert session.keeper.asking is None
    assert not session.state.dirty


def test_what_cannot_be_saved_is_a_message_and_nothing_is_lost(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.ask_to_close()
    session.keeper.answer(session.state, SAVE)
    session.keeper.save_as(session.state, Path("locked.yaml"))
    assert "locked.yaml must be writable" in session.state.message.text
    assert session.state.dirty
    assert not session.wants_close


def test_without_changes_another_scene_opens_and_the_window_closes_unasked(session):
    open_city(session)
    session.ask_to_open(Path("other.yaml"))
    run(session, lambda: session.state.opening is None)
    assert session.state.scene.name == "other"
    session.ask_to_close()
    assert session.wants_close


@pytest.mark.parametrize("answer", [SAVE, DISCARD, CANCEL])
def test_with_changes_the_user_is_asked_before_another_scene_opens(session, answer):
    open_city(session)
    session.submit(AddLayer(SHED))
    journal = session.keeper._journal
    session.ask_to_open(Path("other.yaml"))
    assert session.keeper.asking.answers == (SAVE, DISCARD, CANCEL)
    session.keeper.answer(session.state, answer)
    if answer == SAVE:
        session.keeper.save_as(session.state, Path("mine.yaml"))
    run(session, lambda: session.state.opening is None)
    assert session.state.scene.name == ("city" if answer == CANCEL else "other")
    assert (journal.discarded > 0) == (answer == DISCARD)
    assert session.keeper.asking is None


def test_a_cancelled_question_is_forgotten(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.ask_to_close()
    session.keeper.answer(session.state, SAVE)
    session.keeper.answer(session.state, CANCEL)
    session.keeper.save_as(session.state, Path("mine.yaml"))
    assert not session.wants_close


@pytest.mark.parametrize("answer", [RESTORE, FORGET])
def test_what_a_crash_left_is_offered(session, monkeypatch, answer):
    work = SimpleNamespace(
        appearance=Appearance.of(2), styles=(), edits=(replace(SHED, uid=4),), measurements=()
    )
    left = SimpleNamespace(work=work, when=datetime.now().replace(hour=20, minute=14))
    monkeypatch.setattr(FlatJournal, "found", left)
    open_city(session)
    journal = session.keeper._journal
    assert session.keeper.asking.text == "Restore unsaved edits of 20:14?"
    session.submit(Home())
    assert not journal.noted, "the journal holds what is not restored yet"
    session.keeper.answer(session.state, answer)
    if answer == RESTORE:
        assert session.state.edits == work.edits
        assert session.state.dirty
        assert journal.noted[-1] == work.edits
        session.undo()
    assert session.state.edits == ()
    assert bool(journal.discarded) == (answer == FORGET)


def test_the_journal_is_complete_when_the_program_is_told_to_end(session):
    open_city(session)
    session.submit(AddLayer(SHED))
    session.wants_close = True  # as SIGTERM sets it: nobody is asked
    assert session.close()
    journal = session.keeper._journal
    assert journal.is_flushed
    assert journal.noted[-1] == session.state.edits
    assert not journal.discarded


def test_closing_without_an_answer_keeps_what_a_crash_left(session, monkeypatch):
    work = SimpleNamespace(appearance=Appearance.of(2), styles=(), edits=(SHED,), measurements=())
    monkeypatch.setattr(FlatJournal, "found", SimpleNamespace(work=work, when=datetime(2020, 3, 1, 20, 14)))
    open_city(session)
    assert session.keeper.asking.text == "Restore unsaved edits of 01 March, 20:14?"
    session.ask_to_close()
    assert session.wants_close
    assert not session.keeper._journal.discarded


def test_a_job_in_the_background_is_reported_until_it_is_over(session):
    open_city(session)
    free = threading.Event()
    results = []
    session.jobs.start("Counting", lambda progress: free.wait(20), results.append, pytest.fail)
    run(session, lambda: session.state.job is not None)
    assert session.state.job.what == "Counting"
    assert session.next_time(since_start()) < since_start() + 1
    free.set()
    run(session, lambda: session.state.job is None)
    assert results == [True]
    run(session, session.came_to_rest)


def test_a_comparison_is_shown_beside_the_picture_and_ends_with_the_scene(session):
    open_city(session)
    session.submit(CompareWithAppearance(Appearance.of(2)))
    session.submit(SetCompareMode(CompareMode.WIPE))
    run(session, lambda: session.comparison.status.score is not None and session.came_to_rest())
    assert session.comparison.status.label == "code 2"
    session.undo()
    run(session, lambda: session.comparison.status.label == "" and session.came_to_rest())
    session.redo()
    open_city(session, "other.yaml")
    assert session.state.scene.name == "other"
    assert session.state.compare.mode is CompareMode.OFF


def test_side_by_side_both_halves_pick_the_same_points(session):
    open_city(session)
    session.submit(SetCompareMode(CompareMode.SIDE))
    run(session, session.came_to_rest)
    left, right = session.pick((10.0, 30.0)), session.pick((10.0 + SIZE[0] // 2, 30.0))
    assert left == right
    assert left.source == "surface"
    assert session.picture.image.shape[:2] == (SIZE[1], SIZE[0])


def test_corners_of_a_measure_become_a_measurement_that_can_be_undone(session, monkeypatch):
    def corner_at(point, *_):
        return Corner(point, (0.0, 0.0, -1.0), 0.1, on_plane=False)

    monkeypatch.setattr(measuring, "corner_at", corner_at)
    open_city(session)
    session.submit(SetTool(Tool.HEIGHT))
    corners = ((0.0, 0.0, 0.0), (0.0, 0.1, 0.5))
    session.measuring.complete(MeasureKind.HEIGHT, corners)
    session.submit(SetDraft(corners))
    run(session, lambda: session.state.measurements)
    (measurement,) = session.state.measurements
    assert (measurement.points, measurement.spreads) == (corners, (0.1, 0.1))
    assert session.state.draft == ()
    session.undo()
    assert session.state.measurements == ()


def test_a_picture_that_edits_are_about_to_replace_is_not_refined(session):
    open_city(session)
    free = threading.Event()
    compiler = session._loaded.compiler
    compile_now, asked = compiler.compile, []
    compiler.compile = lambda layers: (free.wait(20), compile_now(layers))[1]
    submit = session.desk._worker.submit
    session.desk._worker.submit = lambda request: (asked.append(request), submit(request))
    session.submit(AddLayer(SHED))
    session.submit(SetMode(Mode.DEPTH))
    for _ in range(5):
        session.ask(SIZE, since_start())
    assert not asked
    free.set()
    run(session, lambda: session.picture.request.edits is not None and session.picture.finished)
    assert all(request.edits is not None for request in asked)


def test_closing_ends_every_thread_that_the_session_began(scene_facts, session):
    before = set(threading.enumerate())
    other = Session(ViewerState(), EventLog(None), lambda: None)
    other.open(Path("city.yaml"))
    run(other, lambda: other.picture is not None and other.picture.finished)
    other.submit(AddLayer(SHED))
    run(other, lambda: other.picture.request.edits is not None and other.picture.finished)
    began = set(threading.enumerate()) - before
    assert {"render", "edits", "selector"} <= {thread.name for thread in began}
    assert other.close()
    assert app._wait_for(began)


def test_a_thread_that_does_not_end_is_not_waited_for_longer_than_a_moment(monkeypatch):
    monkeypatch.setattr(app, "PATIENCE", 0.05)
    release = threading.Event()
    thread = threading.Thread(target=release.wait, daemon=True)
    thread.start()
    assert not app._wait_for({thread})
    release.set()
    thread.join()
    assert app._wait_for({thread})
