"""The viewer's run without its window: real threads, a renderer that paints one colour."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.cuda.ops import BackendStatus
from landmark_viewer.cuda.tables import FrameBuffers, RenderControl
from landmark_viewer.viewer import opening
from landmark_viewer.viewer.commands import Home, SetMode, SetPose, ShowMessage
from landmark_viewer.viewer.events import EventLog, read_events, since_start
from landmark_viewer.viewer.opening import Loaded
from landmark_viewer.viewer.session import INFO_SECONDS, Session
from landmark_viewer.viewer.state import Mode, Navigation, Pose, ViewerState

SIZE = (64, 48)


class FlatRenderer:
    """Paints everything grey at the distance 1."""

    backend_status = SimpleNamespace(name="made up", detail="")
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


@pytest.fixture
def session(scene_facts, tmp_path, monkeypatch):
    """A session that opens a made-up city whatever it is asked to open, but not `bad.th`."""

    def load(path, overrides=()):
        if path.name == "bad.th":
            raise InputError("bad.th must be a checkpoint, got nothing")
        facts = replace(scene_facts, path=path, name=path.stem)
        plan = np.zeros((4, 4, 4), np.uint8)
        return Loaded(facts, FlatRenderer(), (0.0, 0.0, 0.0), (), plan)

    monkeypatch.setattr(opening, "load", load)
    events = EventLog(tmp_path / "events.jsonl")
    made = Session(ViewerState(), events, lambda: None)
    yield made
    assert made.close()
    events.close()


def run(session, until, seconds=10.0):
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


def test_where_both_need_the_processor_rendering_waits_for_the_drawing(session):
    open_city(session)
    session._takes_turns = True
    asked = []
    session._worker.submit = asked.append
    pose = session.state.pose
    for yaw in (0.1, 0.2, 0.3):
        session.submit(SetPose(replace(pose, yaw=yaw)))
        session.ask(SIZE, since_start())
    assert len(asked) == 1
    session.note_drawing(0.01)
    session.ask(SIZE, since_start())
    assert [request.camera for request in asked] == [
        replace(pose, yaw=yaw).camera(*SIZE) for yaw in (0.1, 0.3)
    ]


def test_home_glides_there_and_a_move_stops_the_glide(session):
    open_city(session)
    home = session.state.pose
    session.submit(SetPose(replace(home, yaw=1.5)))
    away = session.state.pose
    session.submit(Home())
    assert session.state.pose == home
    time.sleep(0.05)
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
