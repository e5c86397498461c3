"""Every command: what it changes and, above all, what it does not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.edits.layers import Copy, Hide, Placement, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.measure import MeasureKind, Measurement
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.commands import COMMANDS
from landmark_viewer.viewer.history import restore, snapshot
from landmark_viewer.viewer.state import (
    MAX_FOV,
    MAX_RECENT,
    MIN_FOV,
    Against,
    CompareMode,
    Handle,
    JobStatus,
    Message,
    Mode,
    Navigation,
    Pose,
    RenderStatus,
    Selection,
    SelectMode,
    Snapping,
    Theme,
    Tool,
    ViewerState,
)

PRISM = Prism(Region.rectangle(-0.2, -0.2, 0.1, 0.1), 0.0, 0.3)
SELECTED = Prism(Region.rectangle(0.1, 0.3, 0.5, 0.7), 0.0, 0.4)
PLACEMENT = Placement((0.5, 0.5, 0.0))
ELSEWHERE = Placement((0.6, -0.5, 0.0), heading=30.0, scale=1.5)


@pytest.fixture
def state(scene_facts) -> ViewerState:
    return ViewerState(
        scene_facts,
        pose=Pose((1.0, 2.0, 3.0), yaw=0.5, pitch=-0.4, distance=2.0),
        appearance=Appearance.of(1),
        styles=scene_facts.styles,
        edits=(Hide(1, "Hide", prism=PRISM), Copy(2, "Copy", prism=PRISM, placements=(PLACEMENT,))),
        last_uid=2,
        layer=2,
        selection=Selection(SELECTED, "building"),
    )


@pytest.fixture
def examples(scene_facts) -> dict[type, commands.Command]:
    made = (
        commands.SetPose(Pose((0.0, 1.0, 2.0))),
        commands.Home(),
        commands.FocusOn((0.5, 0.5, 0.0)),
        commands.TopDown(),
        commands.NorthUp(),
        commands.SetFov(30.0),
        commands.SetNavigation(Navigation.FLY),
        commands.ToggleNavigation(),
        commands.SetSpeed(2.0),
        commands.ChangeSpeed(1.25),
        commands.SetMode(Mode.BLOCKS),
        commands.SetQualityAtRest(Quality.CLUSTERED),
        commands.SetTargetFps(30.0),
        commands.SetFloor(0.5),
        commands.SetResolution(0.5),
        commands.SetBackground((1.0, 1.0, 1.0)),
        commands.SetCode(2),
        commands.SetAppearance(Appearance.mixed({0: 1.0, 2: 3.0})),
        commands.BlendAppearances(Appearance.of(0), Appearance.of(3), 0.25),
        commands.SetGrade(Grade(exposure=0.5)),
        commands.SetStyle("dawn", Appearance.of(2)),
        commands.RemoveStyle("dusk"),
        commands.RenameStyle("dusk", "night"),
        commands.AddLayer(Hide(prism=PRISM)),
        commands.RemoveLayer(1),
        commands.SetLayer(1, Hide(name="Shed", prism=PRISM)),
        commands.ToggleLayer(1),
        commands.LockLayer(1),
        commands.MoveLayer(1, 1),
        commands.SelectLayer(1),
        commands.DuplicateLayer(1),
        commands.ToggleEdits(),
        commands.UnhideAll(),
        commands.RemoveSelection(),
        commands.HideSelection(),
        commands.IsolateSelection(),
        commands.CropToSelection(),
        commands.CopySelection(ELSEWHERE),
        commands.MoveSelection(ELSEWHERE),
        commands.RestyleSelection(Appearance.of(2)),
        commands.AddPlacement(2, ELSEWHERE),
        commands.SetPlacement(2, 0, ELSEWHERE),
        commands.RemovePlacement(2, 0),
        commands.SelectPlacement(2, 0),
        commands.ReplaceBlockWith(1, Path("sub1_add.th")),
        commands.SetSelection(Selection(PRISM), SelectMode.ADD),
        commands.ClearSelection(),
        commands.InvertSelection(),
        commands.GrowSelection(0.01),
        commands.SetSelectionHeights(0.0, 0.2),
        commands.SelectBlockArea(3),
        commands.SetJob(JobStatus("Fitting the appearance", 0.5)),
        commands.SetDirty(True),
        commands.LearnUnitRatios(((Path("other.yaml"), 0.5),)),
        commands.SceneSaved(Path("elsewhere.yaml")),
        commands.RestoreWork(Appearance.of(2), (("dawn", Appearance.of(1)),), (Hide(5, prism=PRISM),), ()),
        commands.PinBlock(1),
        commands.SetMemoryDevice(2_000_000_000),
        commands.SetMemoryHost(8_000_000_000),
        commands.SetMemoryDetail(1.5),
        commands.SetMemoryNeighbours(5),
        commands.SetTool(Tool.POLYGON),
        commands.SetHandle(Handle.ROTATE),
        commands.SetSnapping(Snapping(False, 0.05)),
        commands.SetDraft(((0.0, 0.0, 0.1), (0.5, 0.0, 0.1))),
        commands.SetCompareMode(CompareMode.WIPE),
        commands.CompareWith(Against.CHECKPOINT),
        commands.CompareWithAppearance(Appearance.of(2)),
        commands.CompareWithCheckpoint(Path("other.th")),
        commands.SetWipe(0.25),
        commands.SetGain(8.0),
        commands.AddMeasurement(Measurement(MeasureKind.DISTANCE, ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)))),
        commands.RemoveMeasurement(0),
        commands.RenameMeasurement(0, "Width of the street"),
        commands.ClearMeasurements(),
        commands.ToggleBlockBorders(),
        commands.SelectBlock(1),
        commands.ToggleInterface(),
        commands.ToggleHelp(),
        commands.SetTheme(Theme.LIGHT),
        commands.ShowMessage("Saved"),
        commands.DismissMessage(),
        commands.BeginOpening("other.yaml"),
        commands.SceneOpened(dataclasses.replace(scene_facts)),
        commands.OpeningFailed("other.yaml does not exist"),
        commands.SetStatus(RenderStatus(progress=0.5)),
    )
    return {type(command): command for command in made}


def test_there_is_an_example_of_every_command(examples):
    assert set(examples) == set(COMMANDS)


def test_every_command_class_of_the_module_is_registered():
    classes = {
        member
        for member in vars(commands).values()
        if isinstance(member, type) and hasattr(member, "apply") and member is not commands.Command
    }
    assert classes == set(COMMANDS)


@pytest.mark.parametrize("command_type", COMMANDS, ids=lambda command: command.__name__)
class TestEveryCommand:
    def test_is_a_frozen_dataclass_with_a_sentence_about_it(self, command_type, examples):
        assert dataclasses.is_dataclass(command_type)
        assert command_type.__dataclass_params__.frozen
        assert command_type.__doc__
        assert hash(examples[command_type]) == hash(dataclasses.replace(examples[command_type]))

    def test_gives_the_same_state_for_the_same_input(self, command_type, examples, state):
        before = dataclasses.replace(state)
        assert examples[command_type].apply(state) == examples[command_type].apply(state)
        assert state == before

    def test_works_while_no_scene_is_open(self, command_type, examples):
        assert isinstance(examples[command_type].apply(ViewerState()), ViewerState)

    def test_changes_what_can_be_undone_only_under_a_label(self, command_type, examples, state):
        after = examples[command_type].apply(state)
        if not examples[command_type].undo and after.scene is state.scene:
            assert snapshot(after) == snapshot(state)

    def test_with_a_label_changes_nothing_but_what_can_be_undone(self, command_type, examples, state):
        command = examples[command_type]
        if command.undo:
            after = command.apply(state)
            assert restore(after, snapshot(state)) == state


@pytest.mark.parametrize("eye", [(math.nan, 0.0, 0.0), (0.0, math.inf, 0.0)])
def test_a_pose_that_is_not_finite_is_refused_with_a_message(state, eye):
    after = commands.SetPose(Pose(eye)).apply(state)
    assert after.pose == state.pose
    assert "finite" in after.message.text


def test_home_returns_to_the_view_of_the_scene(state):
    assert commands.Home().apply(state).pose == state.scene.home


def test_north_up_turns_about_the_pivot_when_orbiting_and_on_the_spot_when_flying(state):
    orbiting = commands.NorthUp().apply(state).pose
    assert orbiting.pivot == pytest.approx(state.pose.pivot)
    flying = commands.NorthUp().apply(dataclasses.replace(state, navigation=Navigation.FLY)).pose
    assert flying.eye == state.pose.eye
    assert orbiting.yaw == flying.yaw == 0


@pytest.mark.parametrize(("asked", "got"), [(1.0, MIN_FOV), (60.0, 60.0), (179.0, MAX_FOV)])
def test_the_field_of_view_is_limited(state, asked, got):
    assert commands.SetFov(asked).apply(state).pose.fov_y == got


def test_the_speed_is_multiplied_and_limited(state):
    faster = commands.ChangeSpeed(2.0).apply(state)
    assert faster.speed == 2.0
    assert commands.ChangeSpeed(1e9).apply(faster).speed == commands.camera.SPEED_RANGE[1]


def test_the_render_preferences_are_limited(state):
    assert commands.SetTargetFps(1e6).apply(state).render.target_fps == commands.picture.FPS_RANGE[1]
    assert commands.SetTargetFps(math.nan).apply(state).render.target_fps == commands.picture.FPS_RANGE[0]
    assert commands.SetFloor(0.0).apply(state).render.floor == commands.picture.FLOOR_RANGE[0]
    assert commands.SetResolution(3.0).apply(state).render.resolution == commands.picture.RESOLUTION_RANGE[1]
    assert commands.SetBackground((2.0, -1.0, 0.5)).apply(state).render.background == (1.0, 0.0, 0.5)
    assert commands.SetBackground(None).apply(state).render.background is None


@pytest.mark.parametrize("code", [-1, 4, 99])
def test_an_appearance_code_outside_of_the_table_is_answered_with_a_message(state, code):
    after = commands.SetCode(code).apply(state)
    assert after.appearance == state.appearance
    assert after.message == Message(f"The appearance code must be from 0 to 3, got {code}", "warn")


def test_a_scene_without_a_table_has_no_codes_to_choose(state):
    scene = dataclasses.replace(state.scene, n_codes=0)
    plain = dataclasses.replace(state, scene=scene, appearance=Appearance.of(0))
    after = commands.SetCode(0).apply(plain)
    assert after.appearance == Appearance.of(0)
    assert after.message.severity == "info"


def test_selecting_a_block_that_does_not_exist_selects_none(state):
    assert commands.SelectBlock(3).apply(state).selected_block == 3
    assert commands.SelectBlock(4).apply(state).selected_block is None
    assert commands.SelectBlock(None).apply(state).selected_block is None


def test_dismissing_takes_the_message_first_and_then_the_help(state):
    open_help = commands.ToggleHelp().apply(commands.ShowMessage("Hello").apply(state))
    once = commands.DismissMessage().apply(open_help)
    assert (once.message, once.help_shown) == (None, True)
    assert commands.DismissMessage().apply(once).help_shown is False


def test_a_scene_that_opens_takes_over_camera_code_and_recent_files(state, scene_facts):
    facts = dataclasses.replace(scene_facts, path=Path("other.yaml"), appearance=Appearance.of(2))
    busy = commands.BeginOpening("other.yaml").apply(dataclasses.replace(state, recent=(Path("city.yaml"),)))
    after = commands.SceneOpened(facts).apply(busy)
    assert busy.scene is state.scene
    assert after.opening is None
    assert (after.scene, after.pose, after.appearance) == (facts, facts.home, Appearance.of(2))
    assert after.recent == (Path("other.yaml"), Path("city.yaml"))
    assert not after.status.finished


def test_opening_the_same_scene_again_lists_it_once(state, scene_facts):
    many = (Path("city.yaml"), *(Path(f"{index}.yaml") for index in range(MAX_RECENT)))
    after = commands.SceneOpened(scene_facts).apply(dataclasses.replace(state, recent=many))
    assert after.recent[0] == Path("city.yaml")
    assert len(after.recent) == len(set(after.recent)) == MAX_RECENT


def test_a_scene_that_fails_to_open_leaves_the_one_that_is_open(state):
    after = commands.OpeningFailed("no such file").apply(commands.BeginOpening("x").apply(state))
    assert after.scene is state.scene
    assert after.message == Message("no such file", "error")
    assert after.opening is None


def test_modes_quality_theme_and_status_are_set(state):
    assert commands.SetMode(Mode.DEPTH).apply(state).render.mode is Mode.DEPTH
    assert commands.SetQualityAtRest(Quality.FAST).apply(state).render.quality_at_rest is Quality.FAST
    assert commands.SetTheme(Theme.LIGHT).apply(state).theme is Theme.LIGHT
    assert commands.SetStatus(RenderStatus(progress=0.5)).apply(state).status.progress == 0.5
    assert commands.ToggleNavigation().apply(state).navigation is Navigation.FLY
