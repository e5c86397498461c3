"""Edits that read other files, in a session: buildings from other scenes, replaced blocks, and restyling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.edits.layers import Copy, Placement, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.viewer import commands, handles
from landmark_viewer.viewer.events import EventLog, since_start
from landmark_viewer.viewer.session import Session
from landmark_viewer.viewer.state import CompareMode, Selection, ViewerState

from .synthetic import write

SIZE = (64, 48)
SHAPE = {"grid": (8, 7, 6), "embedding": 3, "division": (2, 2)}
HOUSE = Prism(Region.rectangle(-0.9, -0.7, -0.3, -0.2), -0.1, 0.4)


def write_scene(folder: Path, seed: int, metres: float) -> Path:
    """Writes a small field of random numbers and a scene file that knows metres."""
    checkpoint = write(folder, "merged-stack", seed=seed, **SHAPE)
    scene = folder / "scene.yaml"
    lines = ["version: 1", "model:", f"  checkpoint: {checkpoint.name}", "frame:"]
    scene.write_text("\n".join([*lines, f"  metres_per_unit: {metres}", ""]))
    return scene


@pytest.fixture
def session(tmp_path, monkeypatch) -> Iterator[Session]:
    """A small scene of 2 x 2 blocks, open and still."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    events = EventLog(tmp_path / "events.jsonl")
    made = Session(ViewerState(), events, lambda: None)
    made.open(write_scene(tmp_path / "city", 0, 100.0))
    run(made, lambda: made.state.scene is not None and stands(made))
    yield made
    assert made.close()
    events.close()


def run(session: Session, until: Callable[[], bool]) -> None:
    """Turns the main loop until a condition holds."""
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end, f"it took too long; {session.state.message}"
        now = since_start()
        session.advance(now)
        session.ask(SIZE, now)
        session.take_picture()
        time.sleep(0.002)


def stands(session: Session) -> bool:
    """Whether the picture on screen shows the present edits and will not get better."""
    picture, state = session.desk.standing, session.state
    shown = tuple(layer for layer in state.edits if layer.enabled) if state.edits_shown else ()
    return picture is not None and (picture.request.edits.layers if picture.request.edits else ()) == shown


def picture_of(session: Session) -> np.ndarray:
    """Returns the finished picture of the present state."""
    run(session, lambda: stands(session))
    return session.picture.image.copy()


def test_a_building_of_another_scene_is_as_large_as_there_and_so_is_its_outline(session, tmp_path):
    before = picture_of(session)
    other = write_scene(tmp_path / "village", 1, 50.0)  # its units are half as long
    house = Copy(prism=HOUSE, placements=(Placement((0.4, 0.3, 0.0)),), source=other)
    session.submit(commands.AddLayer(house))
    assert (picture_of(session) != before).any()
    (layer,) = session.state.edits
    assert session.state.unit_ratios == ((other, 0.5),)
    target = handles.target_of(session.state)
    assert target.outline.region.bounds == pytest.approx((0.25, 0.175, 0.55, 0.425))
    assert (target.outline.low, target.outline.high) == pytest.approx((0.0, 0.25))

    (op,) = session.picture.request.edits.edits.ops  # what the kernels claim is what is outlined
    corner = op.to_source.xx * 0.25 + op.to_source.xy * 0.175 + op.to_source.x0
    assert corner == pytest.approx(-0.9)
    at = (0.5, 0.4, 0.2)
    assert handles.placement_at(session.state.edits, at, session.state.unit_ratios) == (layer, 0)
    assert handles.placement_at(session.state.edits, (0.6, 0.5, 0.4), session.state.unit_ratios) is None

    session.submit(commands.CopySelection(Placement((-0.5, 0.5, 0.0))))
    (layer,) = session.state.edits  # the second copy comes from the same scene
    assert len(layer.placements) == 2
    session.undo()
    session.undo()
    assert np.array_equal(picture_of(session), before)


def test_a_block_and_the_mask_are_replaced_by_landmarks_files_kept_and_taken_back(session, tmp_path):
    before = picture_of(session)
    folder = tmp_path / "after"
    write(folder, "branch-sub", seed=7, **SHAPE)
    (added,) = (path.rename(folder / "sub1_add.th") for path in folder.glob("*-sub1.th"))
    occupancy = session.scene.model.occupancy
    mask = folder / "alpha_volume_1.npy"
    np.save(mask, np.ones(tuple(occupancy.nodes.shape), np.uint8))

    session.submit(commands.ReplaceBlockWith(1, added))
    replaced = picture_of(session)
    assert (replaced != before).any()
    session.submit(commands.ReplaceBlockWith(1, added, mask))
    with_mask = picture_of(session)
    assert (with_mask != replaced).any()

    saved = tmp_path / "edited.yaml"
    session.keeper.save_as(session.state, saved)
    assert not session.state.dirty
    session.undo()
    assert np.array_equal(picture_of(session), replaced)
    session.undo()
    assert np.array_equal(picture_of(session), before)
    session.keeper.save_as(session.state, tmp_path / "plain.yaml")
    session.open(saved)
    run(session, lambda: session.state.scene.path == saved)
    assert np.array_equal(picture_of(session), with_mask)


def test_a_block_that_does_not_fit_is_refused_in_a_sentence_and_the_picture_stays(session, tmp_path):
    before = picture_of(session)
    write(tmp_path / "wrong", "branch-sub", seed=7, **{**SHAPE, "density": 5})
    (wrong,) = (tmp_path / "wrong").glob("*-sub1.th")
    session.submit(commands.ReplaceBlockWith(1, wrong))
    run(session, lambda: session.state.message is not None and session.state.message.severity == "error")
    assert "must have the levels, density and appearance channels" in session.state.message.text
    session.undo()
    assert np.array_equal(picture_of(session), before)


def test_a_restyled_region_and_the_plan_map_follow_the_appearance(session):
    before, plan = picture_of(session), session.plan
    session.submit(commands.SetSelection(Selection(replace(HOUSE, low=-0.2, high=0.5))))
    session.submit(commands.RestyleSelection(Appearance.of(2)))
    restyled = picture_of(session)
    changed = (restyled != before).any(axis=-1)
    assert changed.any()
    assert not changed.all()
    run(session, lambda: session.plan is not plan and (session.plan != plan).any())
    local = session.plan
    session.undo()
    assert np.array_equal(picture_of(session), before)
    run(session, lambda: session.plan is plan)
    session.submit(commands.SetCode(2))
    run(session, lambda: (session.plan != plan).any())
    assert (session.plan != plan).sum() > (local != plan).sum()


def test_a_scene_compared_with_a_copy_of_its_files_differs_nowhere(session, tmp_path):
    picture_of(session)
    copy = write_scene(tmp_path / "copy", 0, 100.0)
    session.submit(commands.SetCompareMode(CompareMode.DIFFERENCE))
    session.submit(commands.CompareWithCheckpoint(copy))
    run(session, lambda: session.comparison.status.score is not None)
    assert session.comparison.status.score.psnr == math.inf
    run(session, lambda: session.desk.standing is not None and session.picture.beside is not None)
    assert session.picture.image[..., :3].max() == 0
    assert session.picture.beside.name == "scene.yaml"
    assert [file.parent for file in session.picture.beside.files] == [copy.parent]
