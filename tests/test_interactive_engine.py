"""The interactive engine: what it shows is whole, of the asked view, close to exact, and always the same."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.camera import Camera, as_matrix, camera_at, look_at
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Crop, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.interactive.contracts import Budget, Displayed, Kind, Look
from landmark_viewer.core.interactive.engine import Engine
from landmark_viewer.core.interactive.recolor import recolored, samples
from landmark_viewer.core.interactive.ring import FADES, Held, Ring
from landmark_viewer.core.interactive.scatter import scattered
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda.tables import FrameBuffers, Quality, RenderControl
from landmark_viewer.cuda.warp import KeyframeBuilder
from landmark_viewer.cuda.warp_tables import BORDER, Keyframe

from .height_fields import height_field, with_boxes
from .small_fields import Shape, make_field, with_settings
from .stream_town import HOUSE, TOWER, town
from .streamed_fields import streamed

WIDTH, HEIGHT = 96, 64
PIXELS = WIDTH * HEIGHT
RATE = 30.0
# Shares of the picture as at 640 x 360: 9.5 % of the rays, 6.1 % of them for the next keyframe.
BUDGET = Budget(
    round(0.095 * PIXELS), round(0.061 * PIXELS), round(0.015 * PIXELS), round(0.019 * PIXELS), 16
)
NOTHING = Budget(0, 0, 0, 0)
LOOK = Look()


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(town(), Precision.FULL, "cpu")


def orbit(degrees: float, width: int = WIDTH, height: int = HEIGHT, fov: float = 45.0) -> Camera:
    angle = math.radians(20 + degrees)
    eye = (1.7 * math.sin(angle), -1.7 * math.cos(angle), 1.3)
    return Camera.from_fov(look_at(eye, (0.0, 0.0, 0.1)), width, height, fov)


def forward(way: float) -> Camera:
    return Camera.from_fov(look_at((0.1, -1.6 + way, 0.9), (0.15, 0.4 + way, 0.0)), WIDTH, HEIGHT, 50.0)


def turned(degrees: float) -> Camera:
    angle = math.radians(degrees)
    eye = np.array([0.0, -0.9, 0.75])
    ahead = np.array([math.sin(angle), math.cos(angle), -0.35])
    return Camera.from_fov(look_at(eye, eye + ahead), WIDTH, HEIGHT, 60.0)


def exact(renderer: Renderer, camera: Camera, look: Look = LOOK, **how: object) -> FrameBuffers:
    buffers = FrameBuffers.empty(camera.width, camera.height, front=True)
    settings = RenderSettings(
        appearance=look.appearance, edits=look.edits, background=look.background, complete=False, **how
    )
    renderer.render(camera, settings, buffers=buffers)
    return buffers


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().square().mean().clamp(min=1e-12)))


def started(renderer: Renderer, camera: Camera, threads: int = 0, look: Look = LOOK) -> Engine:
    """Returns an engine that shows an exact picture, as after a rest."""
    engine = Engine(renderer, threads)
    engine.adopt(camera, look, exact(renderer, camera, look))
    assert engine.display(camera, look, BUDGET, 0.0).kind is Kind.KEYFRAME
    return engine


def fly(
    engine: Engine, cameras: Iterable[Camera], look: Look = LOOK, budget: Budget = BUDGET, first: int = 1
) -> list[Displayed]:
    """Displays views 1 / 30 s apart, and works on the next keyframe in between."""
    pictures = []
    for number, camera in enumerate(cameras, first):
        pictures.append(engine.display(camera, look, budget, number / RATE))
        engine.refine(max(budget.total - pictures[-1].rays, budget.key))
    return pictures


def settle(engine: Engine, camera: Camera, look: Look = LOOK, budget: Budget = BUDGET) -> list[Displayed]:
    """Displays a view that stays until nothing more can be gained."""
    pictures = []
    for number in range(200):
        pictures.append(engine.display(camera, look, budget, 100 + number / RATE))
        if not engine.refine(budget.total).rays:
            return pictures
    raise AssertionError("it never settles")


def digest(pictures: Sequence[Displayed]) -> str:
    sha = hashlib.sha256()
    for each in pictures:
        sha.update(each.image.tobytes())
        sha.update(repr((each.kind, each.rays, each.holes, each.guessed, each.error)).encode())
        for plane in (each.buffers.rgb, each.buffers.opacity, each.buffers.depth, each.buffers.median_depth):
            sha.update(plane.numpy().tobytes())
    return sha.hexdigest()


@pytest.fixture
def keyframes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Keyframe, str]]:
    """All keyframes that are finished in a test, with what they hold then; the newest one last."""
    made: list[tuple[Keyframe, str]] = []
    finish = KeyframeBuilder.finish

    def watched(builder: KeyframeBuilder) -> Keyframe:
        keyframe = finish(builder)
        made.append((keyframe, key_digest(keyframe)))
        return keyframe

    monkeypatch.setattr(KeyframeBuilder, "finish", watched)
    return made


def key_digest(keyframe: Keyframe) -> str:
    arrays = (keyframe.color, keyframe.planes, keyframe.lacking)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def assert_whole(picture: Displayed, camera: Camera) -> None:
    assert picture.camera is camera
    assert picture.image.shape == (camera.height, camera.width, 4)
    assert picture.image.dtype == np.uint8
    assert (picture.image[..., 3] == 255).all()
    for plane in (picture.buffers.rgb, picture.buffers.opacity, picture.buffers.median_depth):
        assert torch.isfinite(plane).all()
    shown = picture.buffers.rgb.numpy()
    assert np.abs(shown * 255 - picture.image[..., :3]).max() <= 1.0


# The invariants


def test_a_picture_depends_on_poses_and_budgets_and_not_on_threads(renderer):
    ways = [*map(orbit, np.linspace(0, 7, 14)), turned(0.0), *map(turned, np.linspace(3, 9, 5)), turned(9.0)]
    hashes = set()
    for threads in (1, 2, 4):
        engine = started(renderer, orbit(0.0), threads)
        pictures = []
        for number, camera in enumerate(ways, 1):
            budget = replace(BUDGET, total=BUDGET.total + 40 * (number % 3))
            pictures += fly(engine, [camera], budget=budget, first=number)
        hashes.add(digest(pictures))
    assert len(hashes) == 1


def test_finished_keyframes_never_change(renderer, keyframes):
    engine = started(renderer, orbit(0.0))
    for number in range(60):
        look = Look(Appearance.of(number // 45))
        fly(engine, [orbit(number / 3)], look, first=number + 1)
    assert len(keyframes) >= 3
    for keyframe, digest_then in keyframes:
        assert key_digest(keyframe) == digest_then
        with pytest.raises(ValueError, match="read-only"):
            keyframe.color[0, 0, 0] = 1


@pytest.mark.parametrize("budget", [BUDGET, NOTHING], ids=["rays", "no rays"])
def test_every_pixel_is_set_wherever_the_camera_goes(renderer, budget):
    """From the ground, from far, from behind, off the scene, and back."""
    away = Camera.from_fov(look_at((0.0, -3.0, 1.0), (0.0, -9.0, 1.0)), WIDTH, HEIGHT, 60.0)
    inside = Camera.from_fov(look_at((0.1, 0.1, 0.1), (0.5, 0.9, 0.1)), WIDTH, HEIGHT, 90.0)
    ways = [orbit(3.0), orbit(183.0), inside, away, forward(0.3), orbit(0.0, 33, 70), orbit(1.0, 1, 1), away]
    engine = Engine(renderer)
    for number, camera in enumerate([orbit(0.0), *ways]):
        picture = fly(engine, [camera], Look(background=(0.2, 0.4, 0.8)), budget, number)[0]
        assert_whole(picture, camera)
    assert (picture.image == (51, 102, 204, 255)).all()  # off the scene there is the background only


def test_a_view_outside_of_all_keyframes_shows_a_coarse_picture_at_once_and_a_full_one_next(
    renderer, keyframes
):
    engine = started(renderer, orbit(0.0))
    there = orbit(180.0)
    picture = engine.display(there, LOOK, BUDGET, 1.0)
    assert picture.kind is Kind.COARSE
    assert PIXELS / 16 <= picture.rays <= PIXELS / 16 + BUDGET.total
    reference = exact(renderer, there).rgb
    assert psnr(picture.buffers.rgb, reference) > 17
    engine.refine(BUDGET.key)
    kinds, n_needed = [], PIXELS / BUDGET.key
    while Kind.WARPED not in kinds and len(kinds) < n_needed + 2:
        kinds += [each.kind for each in fly(engine, [orbit(180 + len(kinds) / 10)], first=31 + len(kinds))]
    assert kinds.index(Kind.WARPED) > 0.6 * n_needed
    assert set(kinds[:-1]) == {Kind.COARSE}
    assert keyframes[-1][0].view.c2w.tolist() == view_of(there).c2w.tolist()


@pytest.mark.parametrize(
    ("way", "floor"),
    [
        ([orbit(i / 3) for i in range(45)], 28.0),
        ([forward(i / 300) for i in range(45)], 32.0),
        ([turned(2 * i) for i in range(45)], 30.0),
    ],
    ids=["orbit", "forward", "turn"],
)
def test_what_is_seen_is_where_the_exact_picture_has_it(renderer, way, floor):
    engine = started(renderer, way[0])
    pictures = fly(engine, way[1:])
    scores = []
    for camera, picture in list(zip(way[1:], pictures, strict=True))[::4]:
        assert picture.camera is camera
        scores.append(psnr(picture.buffers.rgb, exact(renderer, camera).rgb))
    assert np.mean(scores) > floor
    assert all(picture.kind is Kind.WARPED for picture in pictures[1:])


def test_exact_pictures_know_nothing_of_the_engine(renderer):
    """Neither while it works nor afterwards; and it asks for fast pictures only."""
    before = [exact(renderer, orbit(degrees)) for degrees in (0.0, 2.0)]
    asked = []

    class Watched(Renderer):
        def render_rays(self, camera, settings, *rest):
            asked.append(settings)
            return super().render_rays(camera, settings, *rest)

    engine = started(Watched(renderer.model, Precision.FULL, "cpu"), orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(12)])
    after = [exact(renderer, orbit(degrees)) for degrees in (0.0, 2.0)]
    for one, other in zip(before, after, strict=True):
        for name in ("rgb", "opacity", "depth", "median_depth", "front"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert asked
    assert {settings.quality for settings in asked} == {Quality.FAST}


def test_what_is_prepared_makes_rays_cheaper_and_changes_next_to_nothing(renderer):
    """It is found out once, and a cancelled attempt counts for nothing."""
    pictures = []
    for prepared in (False, True):
        mine = Renderer(renderer.model, Precision.FULL, "cpu")
        asked = []
        render_rays = mine.render_rays

        def watched(camera, settings, *rest, render_rays=render_rays, asked=asked):
            asked.append(settings.tight)
            return render_rays(camera, settings, *rest)

        mine.render_rays = watched
        engine = started(mine, orbit(0.0))
        if prepared:
            control = RenderControl(8, 8)
            control.cancel()
            engine.prepare(control)
            fly(engine, [orbit(0.1)], first=1)
            assert asked[-1] is None
            engine.prepare()
            engine.prepare()
        fly(engine, [orbit(i / 3) for i in range(1, 9)], first=2)
        assert (asked[-1] is not None) == prepared
        fly(engine, [orbit(3.0)], edits_of(mine, REMOVE), first=10)
        assert (asked[-1] is not None) == prepared
        pictures.append(fly(engine, [orbit(3.3)], first=11)[0].buffers.rgb)
    assert psnr(*pictures) > 40


# Rest


def test_a_camera_that_rests_is_shown_its_keyframe_in_the_end(renderer):
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 20)])
    there = orbit(6.5)
    pictures = settle(engine, there)
    reference = exact(renderer, there).rgb
    scores = [psnr(each.buffers.rgb, reference) for each in pictures]
    assert pictures[-1].kind is Kind.KEYFRAME
    assert pictures[-1].rays == 0
    assert scores[-1] > scores[0] + 1
    assert min(b - a for a, b in pairwise(scores)) > -0.5
    plain = FrameBuffers.empty(WIDTH, HEIGHT)
    settings = RenderSettings(Quality.FAST, cluster_weight=0.34)
    renderer.render(there, settings, buffers=plain)
    assert psnr(pictures[-1].buffers.rgb, plain.rgb) > 45  # rays start late and so may miss a little


def test_finished_rays_of_a_resting_camera_are_shown_as_they_are(renderer):
    engine = started(renderer, orbit(0.0))
    there = orbit(4.0)
    fly(engine, [orbit(i / 2) for i in range(1, 9)])  # a keyframe is under way, farther on
    engine.display(there, LOOK, BUDGET, 1.1)  # now it rests: that one is given up
    n = engine.refine(PIXELS // 2).rays
    shown = engine.display(there, LOOK, BUDGET, 1.2)
    refined = [engine.refine(PIXELS) for _ in range(2)]
    assert [each.finished for each in refined] == [True, False]
    assert n + refined[0].rays == PIXELS
    final = engine.display(there, LOOK, BUDGET, 1.3)
    finished = scattered(WIDTH, HEIGHT).pixels[:n]
    one, other = (each.buffers.rgb.numpy().reshape(-1, 3)[finished] for each in (shown, final))
    assert np.array_equal(one, other)
    assert engine.refine(PIXELS).rays == 0


def test_an_adopted_picture_is_shown_bit_for_bit(renderer):
    there = orbit(5.0)
    wanted = exact(renderer, there)
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 16)])
    settle(engine, there)
    engine.adopt(there, LOOK, wanted)
    picture = engine.display(there, LOOK, BUDGET, 200.0, planes=True)
    assert picture.kind is Kind.KEYFRAME
    assert torch.equal(picture.buffers.rgb, wanted.rgb.clamp(0, 1))
    for name in ("opacity", "depth", "median_depth"):
        assert torch.equal(getattr(picture.buffers, name), getattr(wanted, name)), name
    assert engine.refine(PIXELS).rays == 0


def test_pictures_between_two_poses_do_not_cost_the_keyframe_under_way(renderer, keyframes):
    """Who has time to show a pose twice before the next one comes still gets keyframes on the way."""
    engine = started(renderer, orbit(0.0))
    keys = 0
    for number in range(1, 24):
        for later in (0.0, 0.015):
            engine.display(orbit(number / 3), LOOK, BUDGET, number / RATE + later)
            keys += engine.refine(BUDGET.key // 2).finished
    assert keys == 1
    assert np.linalg.norm(keyframes[-1][0].view.c2w - view_of(orbit(8.0)).c2w) < 0.1


def test_before_the_first_picture_there_is_nothing_to_refine(renderer):
    engine = Engine(renderer, threads=1)
    assert engine.refine(640).rays == 0  # nothing is displayed
    assert engine.display(orbit(0.0), LOOK, BUDGET, 1.0).kind is Kind.COARSE


# Cancelling


def test_what_was_finished_before_a_cancel_stays(renderer, keyframes):
    """A cancel in the middle of the work changes neither the keyframe nor the work that it takes."""

    class Interrupted(Renderer):
        stops = True

        def render_rays(self, camera, settings, rays, buffers, control):
            if self.stops and len(rays.pixels) > 512:
                control.order = np.ascontiguousarray(control.order[1::2])
                super().render_rays(camera, settings, rays, buffers, control)
                control.cancel()
                return False
            return super().render_rays(camera, settings, rays, buffers, control)

    keys = []
    for stops in (False, True):
        mine = Interrupted(renderer.model, Precision.FULL, "cpu")
        mine.stops = stops
        engine = started(mine, orbit(0.0))
        engine.display(orbit(2.0), LOOK, BUDGET, 1 / RATE)
        total, n_calls, finished = 0, 0, False
        while not finished:
            control = RenderControl(8, 8)
            refined = engine.refine(2048, control)
            total, finished = total + refined.rays, refined.finished
            n_calls += 1
        assert total == PIXELS
        assert n_calls > (PIXELS / 1024 if stops else 2)
        keys.append(keyframes[-1][1])
    assert keys[0] == keys[1]


def test_a_cancel_from_another_thread_ends_the_work_soon(renderer):
    engine = started(renderer, orbit(0.0))
    engine.display(orbit(2.0, 960, 640), LOOK, NOTHING, 1 / RATE)
    control = RenderControl(8, 8)
    begun = threading.Event()
    render_rays = renderer.render_rays

    def watched(*given: object) -> bool:
        begun.set()
        return render_rays(*given)

    def cancel() -> None:
        begun.wait(10)
        control.cancel()

    other = threading.Thread(target=cancel)
    engine._caster._renderer = SimpleNamespace(render_rays=watched, stream=None, model=renderer.model)
    other.start()
    refined = engine.refine(960 * 640, control)
    other.join()
    assert not refined.finished
    assert refined.rays < 960 * 640
    assert engine.refine(640, control).rays == 0  # it stays cancelled
    assert engine.refine(640).rays == 640


# Looks


def test_other_colours_void_colours_and_keep_the_geometry(renderer):
    engine = started(renderer, orbit(0.0))
    other = Look(Appearance.of(1))
    reference, before = exact(renderer, orbit(0.0), other), exact(renderer, orbit(0.0))
    assert psnr(reference.rgb, before.rgb) < 25
    starts = []
    cast = engine._caster.cast

    def watched(camera, look, pixels, start, cancelled=None):
        starts.append(start)
        return cast(camera, look, pixels, start, cancelled)

    engine._caster.cast = watched
    picture = engine.display(orbit(0.0), other, BUDGET, 1.0)
    assert picture.kind is Kind.RECOLORED
    assert psnr(picture.buffers.rgb, reference.rgb) > psnr(before.rgb, reference.rgb) + 5
    pictures = settle(engine, orbit(0.0), other)
    known = [np.mean(start > 0) for start in starts if start is not None]
    assert max(known) > 0.5  # the old depths say where rays may start
    assert pictures[-1].kind is Kind.KEYFRAME
    assert psnr(pictures[-1].buffers.rgb, reference.rgb) > 33


@pytest.mark.parametrize(
    "look",
    [Look(Appearance.mixed({0: 1, 2: 2})), Look(background=(0.9, 0.1, 0.4))],
    ids=["mix", "background"],
)
def test_nothing_of_the_old_look_is_seen_again(renderer, look):
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 20)])
    fresh = Engine(renderer)
    for number in range(30):
        camera = orbit(6 + number / 3)
        picture = fly(engine, [camera], look, first=20 + number)[0]
        alone = fly(fresh, [camera], look, first=20 + number)[0]
        reference = exact(renderer, camera, look).rgb
        assert psnr(picture.buffers.rgb, reference) > psnr(alone.buffers.rgb, reference) - 2


def test_a_look_that_changes_all_the_time_is_shown_while_the_camera_moves(renderer):
    """Keyframes go on being finished meanwhile, and the rest is theirs as soon as the look stays."""
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 20)])
    shown, keys = [], 0
    for number in range(20, 65):
        look, camera = Look(Appearance.mixed({0: 65 - number, 1: number - 19})), orbit(number / 3)
        shown.append(engine.display(camera, look, BUDGET, number / RATE))
        keys += engine.refine(BUDGET.key).finished
        if number % 4 == 0:
            assert psnr(shown[-1].buffers.rgb, exact(renderer, camera, look).rgb) > 25, number
    assert {each.kind for each in shown} == {Kind.RECOLORED}
    assert keys >= 2
    later = [each.kind for each in fly(engine, [orbit(i / 3) for i in range(65, 95)], look, first=65)]
    assert later == sorted(later), "first recoloured, then warped"
    assert later.count(Kind.WARPED) >= 8


def test_a_look_that_is_taken_back_is_shown_as_it_was(renderer):
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 20)])
    other = fly(engine, [orbit(6 + i / 3) for i in range(5)], Look(Appearance.of(1)), first=20)
    back = fly(engine, [orbit(8 + i / 3) for i in range(5)], first=25)
    assert {each.kind for each in other} == {Kind.RECOLORED}
    assert {each.kind for each in back} == {Kind.WARPED}
    for picture in back:
        assert psnr(picture.buffers.rgb, exact(renderer, picture.camera).rgb) > 26.5


def test_a_coarse_picture_of_another_look_is_not_what_is_shown(renderer):
    engine = started(renderer, orbit(0.0))
    other, whole = Look(Appearance.of(1)), replace(BUDGET, total=2 * PIXELS)
    assert engine.display(orbit(0.5), other, whole, 0.1).kind is Kind.COARSE  # at once in full resolution
    assert engine.display(orbit(0.6), LOOK, BUDGET, 0.2).kind is Kind.WARPED


def test_two_looks_at_rest_are_shown_in_turn_without_a_ray(renderer):
    looks = LOOK, Look(Appearance.of(1))
    engine = started(renderer, orbit(0.0))
    wanted = [settle(engine, orbit(0.0), look)[-1] for look in looks]
    for look, picture in zip(looks * 2, wanted * 2, strict=True):
        again = engine.display(orbit(0.0), look, BUDGET, 200.0)
        assert (again.kind, again.rays) == (Kind.KEYFRAME, 0)
        assert np.array_equal(again.image, picture.image)


def test_edits_and_colours_change_together(renderer):
    """What an edit has taken away says nothing of the new colours."""
    engine, camera = started(renderer, orbit(0.0)), orbit(0.5)
    look = replace(edits_of(renderer, REMOVE), appearance=Appearance.of(1))
    cast, asked = engine._caster.cast, []

    def watched(camera, look, pixels, start, cancelled=None):
        asked.append((camera, pixels))
        return cast(camera, look, pixels, start, cancelled)

    engine._caster.cast = watched
    picture = engine.display(camera, look, BUDGET, 1 / RATE)
    assert picture.kind is Kind.RECOLORED
    differs = exact(renderer, orbit(0.0)).rgb - exact(renderer, orbit(0.0), edits_of(renderer, REMOVE)).rgb
    gone = differs.abs().amax(-1).numpy().reshape(-1) > 0.02
    at, pixels = asked[0]
    assert at == orbit(0.0)
    assert gone.any()
    assert not gone[pixels].any()
    assert psnr(picture.buffers.rgb, exact(renderer, camera, look).rgb) > 24


@pytest.mark.parametrize("size", [(96, 64), (50, 37)])
def test_colours_are_taken_over_from_a_few_pixels(size):
    """Exactly where they are a linear function of the old ones, channel by channel; also the background."""
    width, height = size
    random = np.random.default_rng(1)
    color = random.uniform(0.2, 0.6, (height + 2 * BORDER, width + 2 * BORDER, 4)).astype(np.float32)
    planes = np.repeat((color[..., :1] > 0.3).astype(np.float32), 4, axis=-1)
    view = view_of(orbit(0.0, width, height))
    keyframe = Keyframe(view, color, planes, np.zeros((height, width), dtype=bool))
    backdrop = np.array([0.1, 0.0, -0.1], dtype=np.float32)
    new = (color[..., :3] + (1 - planes[..., :1]) * backdrop) * (0.5, 1.0, 1.5) + (0.2, 0.0, -0.1)
    row, column = np.divmod(samples(width, height, 300), width)
    assert len(row) <= 300
    rgb = new[row + BORDER, column + BORDER].astype(np.float32)
    taken = recolored(keyframe, backdrop, row * width + column, rgb)
    assert np.abs(taken.color[..., :3] - new.clip(0, 1)).mean() < 0.02
    assert np.array_equal(taken.color[..., 3], color[..., 3])
    assert taken.planes is planes
    with pytest.raises(ValueError, match="read-only"):
        taken.color[0, 0, 0] = 1


def test_grades_are_not_the_engines_business(renderer):
    engine = started(renderer, orbit(0.0))
    graded = Look(Appearance(grade=Grade(exposure=1.0)))
    assert engine.display(orbit(0.0), graded, BUDGET, 1.0).kind is Kind.KEYFRAME


def edits_of(renderer: Renderer, *layers: object) -> Look:
    return Look(edits=EditCompiler(renderer).compile(layers))


def box(area: tuple[float, ...], low: float, high: float) -> Prism:
    return Prism(Region.rectangle(*area[:4]), low, high)


REMOVE = Remove(prism=box(TOWER, 0.1, 0.7))


def test_an_edit_voids_only_what_it_touches(renderer):
    engine, camera = started(renderer, orbit(0.0)), orbit(0.0)
    look = edits_of(renderer, REMOVE)
    before, reference = exact(renderer, camera), exact(renderer, camera, look)
    differs = (before.rgb - reference.rgb).abs().amax(-1).numpy() > 0.02
    assert 0.005 < differs.mean() < 0.1
    asked = []
    cast = engine._caster.cast

    def watched(camera, look, pixels, start, cancelled=None):
        asked.append(pixels)
        return cast(camera, look, pixels, start, cancelled)

    engine._caster.cast = watched
    picture = engine.display(camera, look, replace(BUDGET, total=PIXELS // 3), 1.0)
    assert picture.kind is Kind.WARPED
    assert differs.mean() <= picture.holes < 0.2
    assert picture.guessed == 0  # at an unchanged pose holes may take everything
    assert psnr(picture.buffers.rgb, reference.rgb) > 38
    far = np.ones(PIXELS, dtype=bool)
    far[asked[0]] = False
    one, other = (each.rgb.reshape(-1, 3)[far] for each in (picture.buffers, before))
    assert (one - other).abs().max() < 1e-4  # and the others are gathered as they were
    back = engine.display(camera, LOOK, BUDGET, 1.1)
    assert back.kind is Kind.KEYFRAME
    assert torch.equal(back.buffers.rgb, before.rgb.clamp(0, 1))


@pytest.mark.parametrize("inverted", [False, True], ids=["crop", "isolate"])
def test_crops_are_followed_while_the_camera_moves(renderer, inverted):
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 10)])
    area = HOUSE if inverted else (-0.9, -0.3, 0.9, 0.9)
    look = edits_of(renderer, Crop(prism=box(area, 0.0, 0.75)))
    kinds = set()
    for number in range(30):
        camera = orbit(3 + number / 3)
        picture = fly(engine, [camera], look, first=10 + number)[0]
        kinds.add(picture.kind)
        score = psnr(picture.buffers.rgb, exact(renderer, camera, look).rgb)
    assert Kind.WARPED in kinds
    assert score > 26


def test_a_keyframe_under_way_goes_on_where_an_edit_does_not_touch_it(renderer, keyframes):
    engine = started(renderer, orbit(0.0))
    rays = 0
    for number in range(1, 9):
        engine.display(orbit(number / 3), LOOK, BUDGET, number / RATE)
        rays += engine.refine(BUDGET.key).rays
    look = edits_of(renderer, REMOVE)
    engine.display(orbit(3.0), look, BUDGET, 9 / RATE)
    refined = engine.refine(2 * PIXELS)
    assert refined.finished
    assert PIXELS < rays + refined.rays < 1.2 * PIXELS
    view = keyframes[-1][0].view
    camera = replace(orbit(0.0), c2w=(*map(tuple, view.c2w.tolist()), (0.0, 0.0, 0.0, 1.0)))
    shown = engine.display(camera, look, BUDGET, 10.0)
    assert psnr(shown.buffers.rgb, exact(renderer, camera, look).rgb) > 33
    assert psnr(shown.buffers.rgb, exact(renderer, camera).rgb) < 30


def test_a_dragged_edit_is_shown_at_every_place(renderer):
    engine, camera = started(renderer, orbit(0.0)), orbit(0.0)
    for number in range(6):
        area = tuple(np.add(TOWER[:4], 0.06 * number))
        look = edits_of(renderer, Remove(prism=box(area, 0.1, 0.7)))
        picture = fly(engine, [camera], look, replace(BUDGET, total=PIXELS // 3), number + 1)[0]
        assert psnr(picture.buffers.rgb, exact(renderer, camera, look).rgb) > 36


def test_what_comes_into_view_before_known_things_is_met_by_the_next_keyframe():
    """A pole beside the way of the camera enters in front of the sky, which keyframes have seen already."""
    pole = (0.3, -0.62, 0.36, -0.56, 0.6)
    model = height_field(with_boxes(lambda x, y: 0.05 + 0 * x, pole, (-0.8, 0.6, 0.8, 0.8, 0.3)), n=65)
    renderer, look = Renderer(model, Precision.FULL, "cpu"), Look(background=(1.0, 0.0, 1.0))

    def beside(number: int) -> Camera:
        x = -0.3 + number / 80
        return Camera.from_fov(look_at((x, -0.95, 0.35), (x, 1.0, 0.2)), WIDTH, HEIGHT, 50.0)

    engine = started(renderer, beside(0), look=look)
    pictures = fly(engine, [beside(number) for number in range(1, 61)], look)
    scores = [
        psnr(pictures[number].buffers.rgb, exact(renderer, beside(number + 1), look).rgb)
        for number in range(40, 60, 4)
    ]
    has_pole = exact(renderer, beside(60), look).depth[HEIGHT // 2, WIDTH // 2 :] < 0.6
    assert has_pole.any()
    assert min(scores) > 28


# Sizes, fields of view, courses


def test_keyframes_of_another_size_serve(renderer):
    engine = started(renderer, orbit(0.0, 192, 128))
    camera = camera_at(orbit(1.5, 192, 128), 0.5)
    picture = engine.display(camera, LOOK, BUDGET, 0.1)
    assert picture.kind is Kind.WARPED
    assert_whole(picture, camera)
    assert psnr(picture.buffers.rgb, exact(renderer, camera).rgb) > 27
    engine.refine(BUDGET.key)
    picture = engine.display(orbit(2.0, 192, 128), LOOK, BUDGET, 0.2)
    assert picture.kind is Kind.WARPED
    assert psnr(picture.buffers.rgb, exact(renderer, orbit(2.0, 192, 128)).rgb) > 27


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_pose_that_is_none_is_refused_and_nothing_is_lost_by_it(renderer, number):
    engine = started(renderer, orbit(0.0))
    fly(engine, [orbit(i / 3) for i in range(1, 6)])
    c2w = orbit(2.0).matrix
    c2w[0, 3] = number
    with pytest.raises(InputError, match="c2w of the camera must be finite numbers, got"):
        engine.display(replace(orbit(2.0), c2w=as_matrix(c2w)), LOOK, BUDGET, 6 / RATE)
    assert fly(engine, [orbit(2.0)], first=7)[0].kind is Kind.WARPED


def test_a_zoom_is_no_new_scene(renderer):
    engine = started(renderer, orbit(0.0))
    cameras = [orbit(0.0, fov=45.0 - i / 2) for i in range(1, 20)]
    pictures = fly(engine, cameras)
    assert {each.kind for each in pictures} == {Kind.WARPED}
    assert psnr(pictures[-1].buffers.rgb, exact(renderer, cameras[-1]).rgb) > 27


def test_the_keyframe_of_a_known_course_is_on_it(renderer, keyframes):
    class Path:
        def camera_in(self, seconds: float) -> Camera:
            return turned(12.0) if seconds > 0.2 else turned(0.0)

    engine = started(renderer, turned(0.0))
    for number in range(20):
        engine.display(turned(number / 3), LOOK, BUDGET, number / RATE, Path())
        if engine.refine(BUDGET.key).finished:
            break
    assert keyframes[-1][0].view.c2w.tolist() == view_of(turned(12.0)).c2w.tolist()


def test_planes_are_gathered_on_demand(renderer):
    engine = started(renderer, orbit(0.0))
    camera = orbit(1.0)
    picture = engine.display(camera, LOOK, BUDGET, 0.1, planes=True)
    wanted = exact(renderer, camera)
    assert picture.kind is Kind.WARPED
    for name in ("opacity", "depth", "median_depth"):
        off = (getattr(picture.buffers, name) - getattr(wanted, name)).abs()
        assert float(off.median()) < 0.01, name


def test_a_keyframe_fades_in():
    ring, look = Ring(), Look()
    first, second = (held_at(orbit(degrees), look) for degrees in (0.0, 4.0))
    ring.add(first)
    assert ring.choose(orbit(3.0)).held == (first,)
    ring.add(second)
    chosen = [ring.choose(orbit(3.0)) for _ in range(5)]
    assert [each.fade for each in chosen] == [*FADES, 1.0, 1.0]
    assert {each.held for each in chosen} == {(second, first)}
    back = [ring.choose(orbit(0.5)) for _ in range(4)]  # nearer to the old one again: it fades, too
    assert [each.fade for each in back] == [*FADES, 1.0]
    assert {each.held for each in back} == {(first, second)}


def held_at(camera: Camera, look: Look) -> Held:
    builder = KeyframeBuilder(view_of(camera))
    builder.put_picture(FrameBuffers.empty(camera.width, camera.height, front=True))
    return Held(camera, look, builder.finish())


@pytest.mark.parametrize("size", [(96, 64), (33, 70), (1, 1), (7, 9), (640, 360)])
def test_tiles_are_scattered_and_none_is_left_out(size):
    pixels = scattered(*size).pixels
    assert np.array_equal(np.sort(pixels), np.arange(size[0] * size[1]))
    if size == (640, 360):
        tenth = pixels[: len(pixels) // 10]
        rows, columns = np.divmod(tenth, 640)
        cells = np.histogram2d(rows, columns, bins=(6, 8), range=((0, 360), (0, 640)))[0]
        assert cells.min() > 0.5 * cells.max()


# Fields of other kinds


def test_it_says_what_it_cannot_show():
    model = with_settings(make_field(Shape(nerf=True, opacity=20.0)), run_nerf=True, n_importance=16)
    renderer = Renderer(model, Precision.FULL, "cpu")
    engine = Engine(renderer)
    assert engine.serves(LOOK) is None
    assert "NeRF" in engine.serves(edits_of(renderer, Crop(prism=box((-0.5, -0.5, 0.5, 0.5), 0.0, 0.4))))
    camera = Camera.from_fov(look_at((-1.6, -2.1, 1.3), (0.0, 0.0, 0.1)), 32, 24, 45.0)
    pictures = settle(engine, camera)
    assert pictures[-1].kind is Kind.KEYFRAME
    assert psnr(pictures[-1].buffers.rgb, exact(renderer, camera).rgb) > 25


def test_without_native_kernels_it_says_so(renderer, monkeypatch):
    from landmark_viewer.cuda import ops

    monkeypatch.setattr(ops._native, "_found", "switched off for a test")
    assert Engine(renderer).serves(LOOK) == "no native kernels: switched off for a test"


# Streaming


class Residency:
    """Blocks that come when they are told to."""

    def __init__(self, model: object, resident: set[int]) -> None:
        self.model, self.version = model, 0
        self.plan = SimpleNamespace(chunk_tiles=64)
        self.put(resident)

    def put(self, resident: set[int]) -> None:
        self._tables, self.version = streamed(self.model, resident), self.version + 1

    def tables(self, variants: object = ()) -> object:
        return self._tables


def streaming(resident: set[int]) -> tuple[Renderer, Residency]:
    renderer = Renderer(town(), Precision.FULL, "cpu")
    residency = Residency(renderer.model, resident)
    renderer.stream = SimpleNamespace(residency=residency, close=lambda: None)
    return renderer, residency


ALL = set(range(9))


def test_blocks_that_come_refine_what_is_seen_of_them(renderer, keyframes):
    mine, residency = streaming(ALL - {4})
    camera = orbit(0.0)
    engine = Engine(mine)
    pictures = settle(engine, camera)
    assert pictures[-1].kind is Kind.KEYFRAME
    assert np.flatnonzero(pictures[-1].lacking).tolist() == [4]
    assert 0 < pictures[-1].coarse < 0.6
    stale = keyframes[-1][0].lacking
    reference = exact(renderer, camera).rgb
    residency.put(ALL)
    asked = []
    cast = engine._caster.cast

    def watched(camera, look, pixels, start, cancelled=None):
        asked.append(pixels)
        return cast(camera, look, pixels, start, cancelled)

    engine._caster.cast = watched
    picture = engine.display(camera, LOOK, replace(BUDGET, edge=400, total=BUDGET.key + 400), 300.0)
    assert picture.kind is Kind.WARPED
    assert not picture.lacking.any()  # none that is not in memory by now
    n_stale = int(stale.reshape(-1)[asked[0][: -BUDGET.check]].sum())
    assert n_stale > 0.8 * 400  # and pixels beside them, whose colours mix with theirs
    assert psnr(picture.buffers.rgb, reference) > psnr(pictures[-1].buffers.rgb, reference)
    final = settle(engine, camera)[-1]
    assert final.kind is Kind.KEYFRAME
    assert not final.lacking.any()
    assert final.coarse == 0
    assert psnr(final.buffers.rgb, reference) > 33


def test_a_keyframe_under_way_renders_again_what_it_lacked(keyframes):
    mine, residency = streaming(ALL - {4})
    engine = Engine(mine)
    engine.display(orbit(0.0), LOOK, BUDGET, 0.0)
    engine.display(orbit(0.0), LOOK, BUDGET, 0.1)
    rays = engine.refine(PIXELS // 2).rays
    residency.put(ALL)
    refined = engine.refine(2 * PIXELS)
    assert refined.finished
    assert rays + refined.rays > PIXELS
    assert not keyframes[-1][0].lacking.any()
    assert refined.needs is not None
    assert (refined.needs > 0).sum() >= 5
    assert engine.display(orbit(0.0), LOOK, BUDGET, 0.2).kind is Kind.KEYFRAME


def test_an_adopted_picture_says_what_it_lacks(renderer):
    mine, residency = streaming(ALL - {4})
    engine, camera = Engine(mine), orbit(0.0)
    lacking = np.zeros((HEIGHT, WIDTH), dtype=bool)
    lacking[20:40, 30:60] = True
    blocks = np.arange(9) == 4
    engine.adopt(camera, LOOK, exact(mine, camera), lacking, blocks)
    shown = engine.display(camera, LOOK, BUDGET, 0.0)
    assert shown.kind is Kind.KEYFRAME
    assert shown.coarse == pytest.approx(lacking.mean())
    residency.put(ALL)
    assert engine.display(camera, LOOK, BUDGET, 0.1).kind is Kind.WARPED
