"""Whatever is done to a scene can be undone, byte for byte; the town and its pictures show it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Placement, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.measure import MeasureKind, Measurement
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.scenes.load import Scene, open_scene
from landmark_viewer.scenes.save import scene_to_mapping
from landmark_viewer.scenes.schema import scene_from_mapping
from landmark_viewer.scenes.shipped import demo_scene_path
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.document import Document
from landmark_viewer.viewer.history import History, snapshot
from landmark_viewer.viewer.opening import facts_of
from landmark_viewer.viewer.state import Pose, Selection, ViewerState

SIZE = 30, 20  # pixels
places = st.floats(-0.8, 0.8).map(lambda value: round(value, 2))
placements = st.builds(
    lambda x, y, heading, scale: Placement((x, y, 0.0), heading, scale),
    places,
    places,
    st.sampled_from([0.0, 30.0, -90.0]),
    st.sampled_from([1.0, 0.7]),
)
appearances = st.builds(
    lambda a, b, share: Appearance.mixed({a: 1 - share, b: share}) if a != b else Appearance.of(a),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([0.25, 0.5]),
)
selections = st.builds(
    lambda x, y, width, height, top: Selection(
        Prism(Region.rectangle(x, y, x + width, y + height), 0.0, top)
    ),
    places,
    places,
    st.sampled_from([0.1, 0.3]),
    st.sampled_from([0.1, 0.2]),
    st.sampled_from([0.1, 0.4]),
)
uids = st.integers(1, 4)
steps = st.one_of(
    st.builds(commands.SetSelection, selections),
    st.just(commands.RemoveSelection()),
    st.just(commands.HideSelection()),
    st.just(commands.IsolateSelection()),
    st.builds(commands.CopySelection, placements),
    st.builds(commands.MoveSelection, placements),
    st.builds(commands.RestyleSelection, appearances),
    st.builds(commands.SetAppearance, appearances),
    st.builds(commands.SetGrade, st.builds(Grade, st.sampled_from([0.0, 0.5]))),
    st.builds(commands.SetStyle, st.sampled_from(["mine", "autumn"]), appearances),
    st.builds(commands.ToggleLayer, uids),
    st.builds(commands.RemoveLayer, uids),
    st.builds(commands.LockLayer, uids),
    st.builds(commands.DuplicateLayer, uids),
    st.builds(commands.MoveLayer, uids, st.integers(0, 3)),
    st.builds(commands.AddPlacement, uids, placements),
    st.builds(
        commands.SetPlacement, uids, st.integers(0, 1), placements, st.sampled_from(["", "drag-1", "drag-2"])
    ),
    st.just(commands.ToggleEdits()),
    st.builds(
        commands.AddMeasurement,
        st.just(Measurement(MeasureKind.DISTANCE, ((0.0, 0.0, 0.0), (0.3, 0.4, 0.0)), (0.01, 0.01))),
    ),
    st.builds(lambda yaw: commands.SetPose(Pose((-1.0, -1.2, 0.9), yaw, -0.5)), st.sampled_from([0.5, 0.7])),
)


@cache
def town() -> tuple[Scene, Renderer, EditCompiler, ViewerState]:
    scene = open_scene(demo_scene_path("demo"))
    renderer = Renderer(scene.model)
    facts = facts_of(scene, renderer)
    opened = commands.SceneOpened(facts).apply(ViewerState())
    return scene, renderer, EditCompiler(renderer), opened


def picture(state: ViewerState, quality: Quality = Quality.EXACT) -> str:
    """Digest of what a state shows."""
    _, renderer, compiler, _ = town()
    edits = compiler.compile(state.edits) if state.edits_shown else None
    frame = renderer.render(
        state.pose.camera(*SIZE), RenderSettings(quality, appearance=state.appearance, edits=edits)
    )
    return hashlib.sha256(frame.rgb.tobytes() + frame.median_depth.tobytes()).hexdigest()


def file_of(state: ViewerState) -> bytes:
    """The scene file of a state, as it would be written."""
    spec = Document.of(town()[0]).spec_for(state, Path("/scene.yaml"))
    return yaml.safe_dump(scene_to_mapping(spec), sort_keys=False).encode()


def play(sequence) -> tuple[ViewerState, History]:
    state, history = town()[-1], History()
    for command in sequence:
        state = history.do(state, command)
    return state, history


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=10))
def test_undoing_every_step_gives_the_first_state_file_and_picture(sequence):
    start = town()[-1]
    state, history = play(sequence)
    last, n_steps = state, 0
    while history.can_undo:
        state, n_steps = history.undo(state), n_steps + 1
    assert n_steps <= len(sequence)
    assert snapshot(state) == snapshot(start)
    assert file_of(state) == file_of(start)
    assert picture(state) == picture(start)
    while history.can_redo:
        state = history.redo(state)
    assert snapshot(state) == snapshot(last)
    assert file_of(state) == file_of(last)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=8))
def test_a_scene_that_is_written_and_read_shows_the_same_picture(sequence):
    state, _ = play(sequence)
    spec = scene_from_mapping(yaml.safe_load(file_of(state)), "scene.yaml")
    assert spec.measurements == state.measurements
    assert spec.appearance.styles == state.styles
    _, renderer, _, _ = town()
    fresh = EditCompiler(renderer)
    edits = fresh.compile(spec.edits) if state.edits_shown else None
    frame = renderer.render(
        state.pose.camera(*SIZE), RenderSettings(appearance=spec.appearance.start, edits=edits)
    )
    digest = hashlib.sha256(frame.rgb.tobytes() + frame.median_depth.tobytes()).hexdigest()
    assert digest == picture(state)


@pytest.mark.parametrize("quality", list(Quality))
def test_a_layer_that_is_switched_off_leaves_no_trace(quality):
    start = town()[-1]
    house = Selection(Prism(Region.rectangle(-0.2, -0.2, 0.2, 0.2), 0.0, 0.4))
    state, _ = play([commands.SetSelection(house), commands.RemoveSelection()])
    assert picture(state, quality) != picture(start, quality)
    off = commands.ToggleLayer(state.edits[0].uid).apply(state)
    assert picture(off, quality) == picture(start, quality)
    hidden = commands.ToggleEdits().apply(state)
    assert picture(hidden, quality) == picture(start, quality)
