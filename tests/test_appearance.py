"""Appearances: what mixes, embeddings, blends and the grade do to the picture; the map of a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, Grade, blend
from landmark_viewer.core.appearance_map import AppearanceMap
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.cuda.tables import FrameBuffers, Quality
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.history import History
from landmark_viewer.viewer.imaging import to_image
from landmark_viewer.viewer.pictures import RenderRequest
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.state import Mode, ViewerState

from .small_fields import Shape, camera, make_field

TABLE = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_field(Shape(latent=7, levels=2)), device="cpu")


@pytest.fixture
def state(scene_facts) -> ViewerState:
    return ViewerState(scene_facts, appearance=Appearance.of(1), styles=scene_facts.styles)


class TestBlends:
    @pytest.mark.parametrize("quality", list(Quality))
    def test_weights_0_and_1_give_the_pictures_of_the_ends_bit_for_bit(self, renderer, quality):
        def picture(appearance):
            settings = RenderSettings(quality, appearance)
            return renderer.render(camera(24, 16), settings).rgb

        first, second = Appearance.of(0), Appearance.of(2)
        ends = picture(first), picture(second)
        assert not np.array_equal(*ends)
        assert np.array_equal(picture(blend(first, second, 0.0)), ends[0])
        assert np.array_equal(picture(blend(first, second, 1.0)), ends[1])
        assert np.array_equal(picture(Appearance.mixed({0: 0.0, 2: 5.0})), ends[1])
        assert np.array_equal(picture(second.resolved(renderer.model.embedding)), ends[1])
        between = picture(blend(first, second, 0.5))
        assert not any(np.array_equal(between, end) for end in ends)

    def test_embeddings_are_interpolated(self):
        first, second = Appearance.mixed({0: 1.0, 1: 3.0}), Appearance.of(4)
        expected = 0.75 * (0.25 * TABLE[0] + 0.75 * TABLE[1]) + 0.25 * TABLE[4]
        mixed = blend(first, second, 0.25)
        torch.testing.assert_close(mixed.embedding(TABLE), expected)
        own = blend(first.resolved(TABLE), second.resolved(TABLE), 0.25)
        torch.testing.assert_close(own.embedding(TABLE), expected)

    def test_grades_are_blended_too(self):
        graded = replace(Appearance.of(0), grade=Grade(exposure=2.0, tint=-1.0))
        assert blend(Appearance.of(0), graded, 0.5).grade == Grade(exposure=1.0, tint=-0.5)

    def test_a_mix_and_an_embedding_must_be_resolved_first(self):
        with pytest.raises(InputError, match="two mixes or two embeddings"):
            blend(Appearance.of(0), Appearance.of(1).resolved(TABLE), 0.5)

    @pytest.mark.parametrize("weights", [{}, {0: 0.0}, {0: 1.0, 1: -0.1}, {0: float("nan")}])
    def test_weights_that_are_no_mix_are_refused(self, weights):
        with pytest.raises(InputError, match="0 or more, and not all 0"):
            Appearance.mixed(weights)

    def test_what_a_table_does_not_hold_is_refused_with_what_it_does(self):
        with pytest.raises(InputError, match=r"from 0 to 5 \(the table has 6 rows\), got 6"):
            Appearance.mixed({0: 1.0, 6: 1.0}).embedding(TABLE)
        with pytest.raises(InputError, match="an embedding of 5 numbers, got 2"):
            Appearance(latent=(0.0, 1.0)).embedding(TABLE)
        with pytest.raises(InputError, match="from 0 to 0"):
            Appearance.of(1).embedding(None)


class TestGrade:
    def test_a_neutral_grade_hands_back_what_it_is_given(self):
        rgb = torch.rand(4, 5, 3)
        assert Grade().is_neutral
        assert Grade().apply(rgb) is rgb

    @pytest.mark.parametrize(
        "grade", [Grade(exposure=-1.5), Grade(temperature=0.7), Grade(0.5, -0.3, 0.9), Grade(tint=-1.0)]
    )
    def test_the_gains_act_in_linear_light(self, grade):
        rgb = np.linspace(0, 1, 3 * 64).reshape(-1, 3)
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        exponents = [
            grade.exposure + 0.5 * grade.temperature + 0.25 * grade.tint,
            grade.exposure - 0.5 * grade.tint,
            grade.exposure - 0.5 * grade.temperature + 0.25 * grade.tint,
        ]
        linear = np.clip(linear * 2.0 ** np.array(exponents), 0, 1)
        expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(grade.apply(torch.from_numpy(rgb)).numpy(), expected, atol=1e-6)

    def test_warm_is_orange_and_tinted_is_magenta(self):
        grey = torch.full((1, 3), 0.5)
        red, green, blue = Grade(temperature=1.0).apply(grey)[0]
        assert red > green > blue
        red, green, blue = Grade(tint=1.0).apply(grey)[0]
        assert red == blue > green

    def test_the_window_shows_colours_graded_and_nothing_else(self):
        buffers = FrameBuffers.empty(4, 3)
        buffers.rgb.fill_(0.25)
        buffers.opacity.fill_(1.0)
        buffers.median_depth.fill_(1.0)
        brighter = Grade(exposure=1.0)
        expected = round(255 * float(brighter.apply(torch.tensor([0.25]).expand(3))[0]))
        shown = to_image(Mode.COLOR, buffers, camera(4, 3), grade=brighter)
        assert (shown[..., :3] == expected).all()
        plain = to_image(Mode.COLOR, buffers, camera(4, 3))
        assert np.array_equal(to_image(Mode.COLOR, buffers, camera(4, 3), grade=Grade()), plain)
        for mode in (Mode.DEPTH, Mode.OPACITY, Mode.NORMALS):
            graded = to_image(mode, buffers, camera(4, 3), grade=brighter)
            assert np.array_equal(graded, to_image(mode, buffers, camera(4, 3)))

    def test_another_grade_is_shown_without_rendering_again(self, renderer):
        rendered = []

        class Counting:
            """Counts what is rendered."""

            tables, stream = renderer.tables, None

            def render(self, *arguments):
                rendered.append(arguments)
                return renderer.render(*arguments)

        worker = RenderWorker(Counting(), lambda: None)
        try:
            plain = RenderRequest(camera(32, 24))
            worker.submit(plain)
            assert worker.wait_idle(20)
            before, n_rendered = worker.take(), len(rendered)
            grade = Grade(exposure=1.0)
            worker.submit(replace(plain, appearance=replace(plain.appearance, grade=grade)))
            assert worker.wait_idle(20)
            after = worker.take()
        finally:
            assert worker.stop()
        assert len(rendered) == n_rendered
        assert before.finished
        assert after.finished
        frame = renderer.render(plain.camera)
        expected = to_image(Mode.COLOR, frame.buffers, plain.camera, grade=grade)
        assert np.array_equal(after.image, expected)
        assert not np.array_equal(before.image, expected)

    def test_a_frame_and_a_request_keep_the_rendered_pixels_under_another_grade(self, renderer):
        plain = RenderRequest(camera(8, 6), appearance=Appearance.of(1))
        graded = replace(plain, appearance=replace(plain.appearance, grade=Grade(exposure=1.0)))
        assert graded.view == plain.view
        assert graded.is_same_work(plain)
        assert not graded.is_same(plain)
        assert graded.look != plain.look
        frames = [
            renderer.render(request.camera, RenderSettings(appearance=request.appearance))
            for request in (plain, graded)
        ]
        assert torch.equal(frames[0].buffers.rgb, frames[1].buffers.rgb)
        assert np.array_equal(frames[1].rgb, Grade(exposure=1.0).apply(frames[0].buffers.rgb).numpy())


class TestCommands:
    def test_rows_outside_of_the_table_are_refused_with_the_valid_range(self, state):
        wrong = Appearance.mixed({0: 1.0, 4: 1.0})
        for command in (
            commands.SetAppearance(wrong),
            commands.SetStyle("wrong", wrong),
            commands.BlendAppearances(Appearance.of(0), wrong, 0.0),
            commands.SetCode(4),
        ):
            after = command.apply(state)
            assert (after.appearance, after.styles) == (state.appearance, state.styles)
            assert after.message.text == "The appearance code must be from 0 to 3, got 4"

    @pytest.mark.parametrize(
        "appearance",
        [
            Appearance(latent=(float("nan"),)),
            Appearance(((0, -1.0), (1, 2.0))),
            Appearance(((0, 0.0),)),
            Appearance(()),
        ],
    )
    def test_numbers_that_are_no_appearance_are_refused(self, state, appearance):
        after = commands.SetAppearance(appearance).apply(state)
        assert after.appearance == state.appearance
        assert after.message.severity == "warn"

    def test_weights_are_brought_to_the_sum_1_and_grades_into_their_limits(self, state):
        asked = Appearance(((0, 2.0), (1, 6.0)), grade=Grade(exposure=99.0, tint=float("nan")))
        after = commands.SetAppearance(asked).apply(state).appearance
        assert after == Appearance(((0, 0.25), (1, 0.75)), grade=Grade(exposure=5.0))

    def test_a_blend_of_both_kinds_is_a_message(self, state):
        after = commands.BlendAppearances(Appearance.of(0), Appearance(latent=(1.0,)), 0.5).apply(state)
        assert after.appearance == state.appearance
        assert "two mixes or two embeddings" in after.message.text

    def test_a_code_keeps_the_grade_and_a_grade_keeps_the_code(self, state):
        graded = commands.SetGrade(Grade(exposure=1.0)).apply(state)
        assert graded.appearance == Appearance(((1, 1.0),), grade=Grade(exposure=1.0))
        assert commands.SetCode(3).apply(graded).appearance.grade == Grade(exposure=1.0)

    def test_styles_are_saved_replaced_renamed_and_removed_in_their_order(self, state):
        after = commands.SetStyle("  dawn ", Appearance.of(2)).apply(state)
        after = commands.SetStyle("day", Appearance.of(1)).apply(after)
        assert after.styles == (
            ("day", Appearance.of(1)),
            ("dusk", Appearance.of(3)),
            ("dawn", Appearance.of(2)),
        )
        after = commands.RenameStyle("dusk", "night").apply(after)
        after = commands.RemoveStyle("day").apply(after)
        assert after.styles == (("night", Appearance.of(3)), ("dawn", Appearance.of(2)))

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (commands.SetStyle(" ", Appearance.of(0)), "1 to 60 letters"),
            (commands.SetStyle("a\nb", Appearance.of(0)), "in one line"),
            (commands.RenameStyle("day", "dusk"), "There is a style dusk already"),
            (commands.RenameStyle("day", "x" * 61), "1 to 60 letters"),
            (commands.RenameStyle("noon", "late"), "There is no style noon; the styles are: day, dusk"),
            (commands.RemoveStyle("noon"), "There is no style noon"),
        ],
    )
    def test_names_that_cannot_be_are_refused(self, state, command, reason):
        after = command.apply(state)
        assert after.styles == state.styles
        assert reason in after.message.text

    def test_a_dragged_slider_is_one_step_of_the_history(self, state):
        history, now = History(), state
        for share in (0.1, 0.4, 0.7):
            now = history.do(
                now, commands.BlendAppearances(Appearance.of(0), Appearance.of(3), share, "blend-1")
            )
        now = history.do(now, commands.SetStyle("dawn", now.appearance))
        undone = history.undo(history.undo(now))
        assert (undone.appearance, undone.styles) == (state.appearance, state.styles)
        assert not history.can_undo
        redone = history.redo(history.redo(undone))
        assert (redone.appearance, redone.styles) == (now.appearance, now.styles)


class TestMap:
    def test_a_plane_of_embeddings_is_shown_without_loss(self):
        random = torch.Generator().manual_seed(2)
        at = torch.randn(40, 2, generator=random) * torch.tensor([3.0, 1.0])
        table = at @ torch.randn(2, 9, generator=random) + 5
        made = AppearanceMap.of(table)
        places = made.place(table)
        assert np.abs(places).max() <= 1
        assert np.abs(places).max(axis=0) == pytest.approx([1 / 1.15] * 2, rel=1e-4)
        for code in (0, 17):
            torch.testing.assert_close(made.embedding(*places[code]), table[code], atol=1e-4, rtol=0)

    def test_the_first_axis_is_that_of_the_largest_spread_and_always_points_the_same_way(self):
        random = torch.Generator().manual_seed(3)
        table = torch.randn(500, 6, generator=random) * torch.tensor([1.0, 4.0, 0.1, 2.0, 0.1, 0.1])
        first, second = AppearanceMap.of(table), AppearanceMap.of(table.flip(0))
        assert first.axes.abs().argmax(dim=1).tolist() == [1, 3]
        torch.testing.assert_close(first.axes, second.axes, atol=1e-4, rtol=0)

    def test_a_place_is_the_mean_and_so_much_of_the_two_components(self):
        made = AppearanceMap.of(TABLE)
        torch.testing.assert_close(made.embedding(0.0, 0.0), TABLE.mean(dim=0))
        moved = made.embedding(0.5, -0.25) - made.mean
        expected = 0.5 * made.half[0] * made.axes[0] - 0.25 * made.half[1] * made.axes[1]
        torch.testing.assert_close(moved, expected)

    def test_chosen_rows_span_the_plane_and_all_rows_are_near_or_far(self):
        made = AppearanceMap.of(TABLE, (1, 2, 4))
        for code in (1, 2, 4):  # three points lie in a plane
            place = made.place(TABLE[code][None])[0]
            torch.testing.assert_close(made.embedding(*place), TABLE[code], atol=1e-5, rtol=0)
            assert made.nearest(TABLE[code])[0] == (code, 0.0)
        distances = [distance for _, distance in made.nearest(TABLE[0], 6)]
        assert distances == sorted(distances)
        assert len(distances) == 6

    @pytest.mark.parametrize("table", [torch.ones(1, 5), torch.ones(4, 5), torch.tensor([[1.0], [2.0]])])
    def test_tables_without_a_plane_have_a_map_all_the_same(self, table):
        made = AppearanceMap.of(table)
        assert np.isfinite(made.place(table)).all()
        assert made.embedding(0.3, 0.4).isfinite().all()
