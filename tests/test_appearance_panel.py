"""The Appearance panel and what it starts in the background, on a small field; no window is needed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

import dearpygui.dearpygui as dpg

from landmark_viewer.core.appearance import Appearance, Grade, blend
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.shipped import demo_scene_path
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.appearance_jobs import AppearanceJobs, read_photo
from landmark_viewer.viewer.imaging import to_image
from landmark_viewer.viewer.jobs import Jobs
from landmark_viewer.viewer.panels.appearance import AppearancePanel
from landmark_viewer.viewer.panels.appearance_map import HEIGHT, STYLES, TABLE, MapView
from landmark_viewer.viewer.panels.looks import LookGrid, looks_of
from landmark_viewer.viewer.panels.mixing import Blend, Mix
from landmark_viewer.viewer.pictures import RenderRequest
from landmark_viewer.viewer.state import Mode, Pose, ViewerState
from landmark_viewer.viewer.theme import Look
from landmark_viewer.viewer.thumbnails import Thumbnails, View
from landmark_viewer.viewer.training_photos import TrainingPhotos, open_training_photos
from landmark_viewer.viewer.widgets import Widgets

from .dataset_files import known_views, write_transforms
from .small_fields import Shape, camera, make_field

WIDTH = 336  # pixels of the panel
POSE = Pose((-1.6, -2.1, 1.3), yaw=0.65, pitch=-0.43, distance=2.9)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """Of a field with a table of three codes."""
    return Renderer(make_field(Shape(latent=7, levels=2)), device="cpu")


@pytest.fixture
def session(renderer, scene_facts):
    """What the panel asks of a session; every command is applied at once."""
    styles = (("day", Appearance.of(0)), ("dusk", Appearance.of(1)), ("night", Appearance.of(2)))
    facts = replace(scene_facts, n_codes=3, styles=styles)
    made = SimpleNamespace(
        state=ViewerState(facts, pose=POSE, styles=styles),
        sent=[],
        renderer=renderer,
        picture=None,
        background=None,
        scene=SimpleNamespace(spec=SimpleNamespace(dataset=None)),
        jobs=Jobs(lambda: None),
    )

    def submit(command, glide=False):
        made.sent.append(command)
        made.state = command.apply(made.state)

    made.submit = submit
    return made


@pytest.fixture
def host(session):
    return SimpleNamespace(session=session, gesture=lambda kind: kind)


@pytest.fixture
def widgets():
    dpg.create_context()
    look = Look(1.0)
    look.build_themes()
    made = Widgets(look)
    yield made
    dpg.destroy_context()


@pytest.fixture
def inside(widgets):
    """A window for parts of the panel."""
    with dpg.window():
        yield widgets


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


def finished_picture(state, width=64, height=48):
    """What the session shows of a state at rest."""
    request = RenderRequest(state.pose.camera(width, height), appearance=state.appearance)
    return SimpleNamespace(finished=True, request=request)


class TestPanel:
    def test_it_shows_tables_embeddings_and_scenes_without_a_table(self, widgets, host, session):
        panel = AppearancePanel(widgets, host)
        panel.build(session.submit)
        state = session.state
        fitted = Appearance(latent=tuple(range(7)), grade=Grade(exposure=1.0))
        facts = replace(state.scene, n_codes=0, styles=())
        plain = ViewerState(facts, appearance=Appearance.of(0), styles=())
        shows = []
        for one in (ViewerState(), state, replace(state, appearance=fitted), plain):
            panel.show(one)
            shows.append((dpg.is_item_shown(panel._of_table), dpg.is_item_shown(panel._no_table)))
        assert shows[1:] == [(True, False), (True, False), (False, True)]

    def test_it_saves_renames_and_removes_styles_and_keeps_codes(self, widgets, host, session):
        panel = AppearancePanel(widgets, host)
        panel.build(session.submit)
        panel.show(session.state)
        session.submit(commands.SetCode(2))
        panel.show(session.state)
        dpg.set_value(panel._name, "late")
        panel._save()
        assert session.state.styles[-1] == ("late", Appearance.of(2))
        panel.show(session.state)
        late = looks_of(session.state, ())[-1]
        panel._choose(late)
        dpg.set_value(panel._name, "later")
        panel._rename()
        assert session.state.styles[-1] == ("later", Appearance.of(2))
        panel._remove()
        assert [name for name, _ in session.state.styles] == ["day", "dusk", "night"]
        dpg.set_value(panel._code, 1)
        panel._add_code()
        panel._add_code()
        assert [look.name for look in looks_of(session.state, panel._codes)][3:] == ["Code 1"]

    def test_a_code_out_of_range_is_refused_and_the_field_goes_back(self, widgets, host, session):
        panel = AppearancePanel(widgets, host)
        panel.build(session.submit)
        panel.show(session.state)
        dpg.set_value(panel._code, 99)
        panel._set_code(99)
        assert session.state.message.text == "The appearance code must be from 0 to 2, got 99"
        panel.show(session.state)
        assert dpg.get_value(panel._code) == 0

    def test_the_grade_is_set_by_its_sliders(self, widgets, host, session):
        panel = AppearancePanel(widgets, host)
        panel.build(session.submit)
        panel.show(session.state)
        panel._set_grade("exposure", 1.5)
        panel.show(session.state)
        panel._set_grade("tint", -0.5)
        panel.show(session.state)
        assert session.state.appearance == Appearance(grade=Grade(1.5, 0.0, -0.5))
        assert dpg.get_value(panel._grade["tint"].item) == -0.5


class TestBlend:
    @pytest.fixture
    def section(self, inside, host, session, renderer):
        made = Blend(inside, host, session.submit, lambda: renderer.model.embedding)
        made.build()
        made.show(session.state, looks_of(session.state, ()))
        return made

    def test_the_slider_goes_from_a_to_b(self, section, session):
        assert section.ends == (Appearance.of(0), Appearance.of(1))
        section._moved(0.25)
        assert session.state.appearance == Appearance(((0, 0.75), (1, 0.25)))
        section._moved(1.0)
        assert session.state.appearance == Appearance.of(1)
        assert {command.gesture for command in session.sent} == {"appearance blend"}

    def test_the_slider_follows_what_is_shown(self, section, session):
        looks = looks_of(session.state, ())
        for appearance, share in (
            (Appearance(((0, 0.25), (1, 0.75))), 0.75),
            (Appearance.of(1), 1.0),
            (Appearance.of(2), 1.0),  # beside the two: it stays
            (Appearance.of(0), 0.0),
        ):
            section.show(replace(session.state, appearance=appearance), looks)
            assert dpg.get_value(section._slider.item) == pytest.approx(share)

    def test_an_embedding_is_blended_with_a_code(self, section, session, renderer):
        fitted = Appearance(latent=tuple(float(v) for v in range(7)))
        session.submit(commands.SetStyle("photo", fitted))
        section.show(session.state, looks_of(session.state, ()))
        section._choose(1, "photo")
        section._moved(0.5)
        expected = blend(Appearance.of(0).resolved(renderer.model.embedding), fitted, 0.5)
        assert session.state.appearance == expected
        section._exchange()
        section._moved(0.0)
        assert session.state.appearance == fitted

    def test_ends_that_are_removed_are_replaced(self, section, session):
        section._choose(1, "night")
        session.submit(commands.RemoveStyle("night"))
        section.show(session.state, looks_of(session.state, ()))
        assert section.ends[1] == Appearance.of(1)


class TestMix:
    @pytest.fixture
    def section(self, inside, host, session):
        made = Mix(inside, host, session.submit)
        made.build()
        made.show(session.state, looks_of(session.state, ()))
        return made

    def show(self, section, session):
        section.show(session.state, looks_of(session.state, ()))

    def test_looks_are_added_weighted_and_taken_out(self, section, session):
        section._added("dusk")
        self.show(section, session)
        assert dict(session.state.appearance.mix) == {0: 0.5, 1: 0.5}
        section._added("night")
        self.show(section, session)
        assert dict(session.state.appearance.mix) == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})
        section._set(2, 0.5, "drag")
        self.show(section, session)
        assert dict(session.state.appearance.mix) == pytest.approx({0: 0.25, 1: 0.25, 2: 0.5})
        section._set(0, 0.0)
        self.show(section, session)
        assert dict(session.state.appearance.mix) == pytest.approx({1: 1 / 3, 2: 2 / 3})
        assert set(section._rows) == {1, 2}

    def test_rows_outlive_a_drag_to_the_end_and_back(self, section, session):
        section._added("dusk")
        self.show(section, session)
        slider = section._rows[1].item
        section._set(1, 1.0, "drag")
        self.show(section, session)
        assert session.state.appearance == Appearance.of(1)
        assert section._rows[1].item == slider
        assert set(section._rows) == {0, 1}
        section._set(1, 0.25, "drag")
        self.show(section, session)
        assert dict(session.state.appearance.mix) == {0: 0.75, 1: 0.25}

    def test_the_last_code_cannot_be_taken_out(self, section, session):
        section._set(0, 0.0)
        section._set(0, 0.5, "drag")
        assert session.sent == []

    def test_the_grade_stays(self, section, session):
        session.submit(commands.SetGrade(Grade(exposure=1.0)))
        self.show(section, session)
        section._added("dusk")
        assert session.state.appearance.grade == Grade(exposure=1.0)


class TestMap:
    @pytest.fixture
    def section(self, inside, host, session, renderer):
        made = MapView(inside, host, session.submit, lambda: renderer.model.embedding)
        made.build()
        made.show(session.state, looks_of(session.state, ()), WIDTH)
        return made

    def test_a_click_on_a_mark_takes_it_exactly(self, section, session):
        looks = dict(enumerate(looks_of(session.state, ())))
        for number, (look, place) in enumerate(section._placed(section._map())):
            assert look == looks[number]
            section.pick(place[0] + 3, place[1] - 3)
            assert session.state.appearance == look.appearance
            section.show(session.state, looks_of(session.state, ()), WIDTH)

    def test_a_click_elsewhere_shows_what_lies_there(self, section, session, renderer):
        session.submit(commands.SetGrade(Grade(tint=0.5)))
        section.show(session.state, looks_of(session.state, ()), WIDTH)
        section.pick(0.25 * WIDTH, 0.25 * HEIGHT)
        found = section._map()
        shown = session.state.appearance
        assert shown.latent == pytest.approx(found.embedding(-0.5, 0.5).tolist())
        assert shown.grade == Grade(tint=0.5)
        section.show(session.state, looks_of(session.state, ()), WIDTH)
        assert dpg.get_item_label(section._line).startswith("Nearest: ")

    def test_it_is_of_the_styles_where_they_span_a_plane_else_of_the_table(self, section, session):
        assert section._kind == STYLES
        section._choose(TABLE)
        section.show(session.state, looks_of(session.state, ()), WIDTH)
        facts = replace(session.state.scene, styles=session.state.styles[:2])
        section.show(replace(session.state, scene=facts), looks_of(session.state, ()), WIDTH)
        assert section._kind == TABLE


class TestThumbnails:
    def view(self, pose=POSE):
        request = RenderRequest(pose.camera(90, 48), background=(0.1, 0.2, 0.3))
        return View.of(request, 24, 16)

    def test_they_are_the_pictures_of_the_renderer_and_made_once(self, renderer):
        woken = threading.Semaphore(0)
        made = Thumbnails(woken.release)
        graded = Appearance(((1, 1.0),), grade=Grade(exposure=1.0))
        wanted = [Appearance.of(0), graded, Appearance.of(0)]
        made.ask(renderer, self.view(), wanted)
        assert [woken.acquire(timeout=20) for _ in range(2)] == [True, True]
        for one in wanted:
            settings = RenderSettings(Quality.FAST, one, background=(0.1, 0.2, 0.3))
            frame = renderer.render(self.view().camera, settings)
            expected = to_image(Mode.COLOR, frame.buffers, frame.camera, grade=one.grade)
            assert np.array_equal(made.picture(one), expected)
        made.ask(renderer, self.view(), wanted)
        wait_until(lambda: not made._is_running)
        assert not woken.acquire(blocking=False)

    def test_the_picture_of_an_older_view_serves_until_the_new_one_is_there(self, renderer):
        woken = threading.Semaphore(0)
        made = Thumbnails(woken.release)
        made.ask(renderer, self.view(), [Appearance.of(0)])
        assert woken.acquire(timeout=20)
        old = made.picture(Appearance.of(0))
        other = self.view(replace(POSE, yaw=1.0))
        made.pause()
        made.ask(renderer, other, [Appearance.of(0)])
        assert woken.acquire(timeout=20)
        assert not np.array_equal(made.picture(Appearance.of(0)), old)
        made.ask(renderer, self.view(), [Appearance.of(0)])
        assert made.picture(Appearance.of(0)) is old

    def test_a_pause_ends_the_picture_under_way_and_it_is_made_later(self):
        started, woken = threading.Event(), threading.Semaphore(0)

        class Slow:
            """Renders until it is told to stop, the first time."""

            calls = 0

            def render(self, camera, settings, control):
                self.calls += 1
                started.set()
                if self.calls == 1:
                    wait_until(lambda: control.is_cancelled)
                buffers = SimpleNamespace(rgb=np.zeros(0))
                return SimpleNamespace(buffers=buffers)

        slow, made = Slow(), Thumbnails(woken.release)
        made.ask(slow, self.view(), [Appearance.of(0), Appearance.of(1)])
        assert started.wait(20)
        made.pause()
        wait_until(lambda: not made._is_running)
        assert slow.calls == 1
        assert made.picture(Appearance.of(0)) is None

    def test_one_that_fails_does_not_hold_up_the_others(self, renderer):
        woken = threading.Semaphore(0)
        made = Thumbnails(woken.release)
        made.ask(renderer, self.view(), [Appearance.of(99), Appearance.of(1)])
        assert [woken.acquire(timeout=20) for _ in range(2)] == [True, True]
        assert made.picture(Appearance.of(99)) is None
        assert made.picture(Appearance.of(1)) is not None

    def test_the_middle_of_the_view_is_kept_and_nothing_is_stretched(self):
        request = RenderRequest(POSE.camera(200, 50))
        small = View.of(request, 24, 16).camera
        assert small.fl_x == small.fl_y
        assert (small.cx, small.cy) == (12, 8)
        assert small.fov_y == pytest.approx(request.camera.fov_y)  # all of the height is seen

    def test_the_grid_asks_while_the_main_picture_rests_and_a_click_chooses(
        self, inside, host, session, monkeypatch
    ):
        chosen, uploads = [], []
        grid = LookGrid(inside, host, chosen.append)
        grid.build()
        monkeypatch.setattr(grid, "_upload", lambda pictures: uploads.append(list(pictures)))
        looks = looks_of(session.state, (1,))

        def show(is_seen=True):
            grid.show(session.state, looks, (None, None), WIDTH, is_seen)

        show()
        session.picture = SimpleNamespace(finished=False, request=finished_picture(session.state).request)
        show()
        session.picture = finished_picture(session.state)
        show(is_seen=False)
        assert not grid._thumbnails._is_running
        assert grid._thumbnails.picture(Appearance.of(0)) is None
        show()
        wait_until(lambda: all(grid._thumbnails.picture(look.appearance) is not None for look in looks))
        show()
        assert [picture is not None for picture in uploads[-1]] == [True] * 4
        left, top, width, height = grid.place(3)
        assert (left, top) == (0, grid.place(0)[1] + grid.place(3)[1])
        monkeypatch.setattr(dpg, "get_mouse_pos", lambda local: (left + width / 2, top + height / 2))
        monkeypatch.setattr(dpg, "get_item_rect_min", lambda _item: (0, 0))
        grid._clicked()
        assert chosen == [looks[3]]


class TestBackground:
    def run(self, session):
        """Waits for the job under way and hears its result."""
        wait_until(lambda: session.jobs._job is None or session.jobs._job.outcome is not None)
        session.jobs.poll()

    def photo(self, renderer, code, view, path):
        rgb = renderer.render(view, RenderSettings(appearance=Appearance.of(code))).rgb
        Image.fromarray(np.rint(255 * rgb).astype(np.uint8)).save(path)
        return path

    def error(self, renderer, appearance, code, view):
        first, second = (
            renderer.render(view, RenderSettings(appearance=one)).rgb
            for one in (appearance, Appearance.of(code))
        )
        return float(np.square(first - second).mean())

    def test_a_photograph_from_here_is_fitted(self, session, renderer, tmp_path):
        view = session.state.pose.camera(60, 40)
        path = self.photo(renderer, 2, view, tmp_path / "photo.png")
        AppearanceJobs(session).fit(path)
        assert session.jobs.status.what == "Fitting the appearance"
        self.run(session)
        assert session.sent[-1].undo == "Fit appearance"
        assert self.error(renderer, session.state.appearance, 2, view) < 10**-3.5

    def test_a_training_photograph_is_fitted_from_where_it_was_taken(self, session, renderer, tmp_path):
        view = camera(50, 40, view=2)
        path = self.photo(renderer, 1, view, tmp_path / "0007.png")
        pixels = np.full((40, 50, 4), 255, np.uint8)
        pixels[..., :3] = np.asarray(Image.open(path))
        session.scene.spec.dataset = "named"
        jobs = AppearanceJobs(session)
        jobs._adopt(session.scene, TrainingPhotos(("train/0007.jpg",), (1,), (view,), lambda number: pixels))
        jobs.fit(path)
        self.run(session)
        assert self.error(renderer, session.state.appearance, 1, view) < 10**-3.5
        jobs.fit(path, from_here=True)
        self.run(session)
        assert self.error(renderer, session.state.appearance, 1, view) > 10**-3.5

    def test_a_training_photograph_shows_its_code_and_place(self, session):
        view = camera(50, 40)
        jobs = AppearanceJobs(session)
        jobs._adopt(session.scene, TrainingPhotos(("a.jpg", "b.jpg"), (0, 2), (view, view), None))
        jobs.show_photo(1)
        assert session.state.appearance == Appearance.of(2)
        assert session.state.pose.eye == pytest.approx(tuple(view.eye))
        np.testing.assert_allclose(session.state.pose.rotation, view.matrix[:3, :3], atol=1e-6)

    def test_only_one_job_runs_at_a_time(self, session, tmp_path):
        release = threading.Event()
        session.jobs.start("Other work", lambda _: release.wait(20), lambda _: None, lambda _: None)
        AppearanceJobs(session).fit(tmp_path / "photo.png")
        assert "cancel it first" in session.state.message.text
        release.set()
        self.run(session)

    def test_a_fit_that_is_cancelled_changes_nothing(self, session, renderer, tmp_path):
        path = self.photo(renderer, 2, session.state.pose.camera(60, 40), tmp_path / "photo.png")
        before = session.state
        AppearanceJobs(session).fit(path)
        session.jobs.cancel()
        self.run(session)
        assert session.state == before

    @pytest.mark.parametrize("content", [None, b"", b"no picture"])
    def test_a_file_that_is_no_photograph_is_a_message(self, session, tmp_path, content):
        path = tmp_path / "photo.jpg"
        if content is not None:
            path.write_bytes(content)
        AppearanceJobs(session).fit(path)
        self.run(session)
        assert session.state.message.severity == "error"
        assert "photo.jpg" in session.state.message.text

    def test_large_photographs_are_averaged_down_and_turned_upright(self, tmp_path):
        pixels = np.zeros((1000, 2000, 3), np.uint8)
        pixels[:, :, 0] = np.arange(2000)[None] // 8
        exif = Image.Exif()
        exif[0x0112] = 6  # taken with the camera turned: shown a quarter clockwise
        Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
        photo = read_photo(tmp_path / "turned.png")
        assert photo.shape == (1000, 500, 3)
        assert photo[0].max() == 0
        assert photo[-1].min(axis=0)[0] > 0.95

    def test_names_that_two_photographs_share_stand_for_none(self):
        photos = TrainingPhotos(("a/1.jpg", "b/1.jpg", "b/2.png"), (0, 1, 2), (), None)
        assert photos.find(Path("x/1.png")) is None
        assert photos.find(Path("2.tif")) == 2
        assert photos.find(Path("3.tif")) is None

    def test_the_photographs_of_a_scene_are_listed_in_the_background(self, session, tmp_path):
        views = known_views(3)
        write_transforms(tmp_path / "photos", views)
        checkpoint = demo_scene_path().parent / "town-merged-stack.th"
        text = f"version: 1\nmodel: {{checkpoint: {checkpoint}}}\ndataset: {{path: photos, holdout: 0}}\n"
        (tmp_path / "scene.yaml").write_text(text)
        session.scene = open_scene(tmp_path / "scene.yaml")
        jobs = AppearanceJobs(session)
        assert jobs.photos is None
        jobs.list_photos()
        assert session.jobs.status.what == "Reading the list of photographs"
        self.run(session)
        assert [Path(name).stem for name in jobs.photos.names] == [view.name for view in views]
        assert jobs.photos.codes == (0, 1, 2)
        assert np.array_equal(jobs.photos.image(1)[..., :3], views[1].pixels)
        session.scene = open_scene(demo_scene_path())
        assert jobs.photos is None

    def test_a_scene_without_a_dataset_has_no_photographs(self):
        with pytest.raises(InputError, match=r"must name a dataset \(dataset.path\)"):
            open_training_photos(open_scene(demo_scene_path()))
