"""Which blocks a view wants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.streaming.demand import CityGrid, ViewDemand, blocks_in, footprint, visible

from .flights import Pilot, city_grid
from .small_fields import Shape, make_field

GRID = city_grid((7, 5), side=0.8, height=0.6, missing=(3, 17, 18))


def crossed(grid: CityGrid, camera: Camera, far: float = math.inf, steps: int = 600) -> set[int]:
    """Marches along the rays of all pixels and returns the existing blocks that they cross."""
    column, row = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    local = np.stack(
        [(column - camera.cx) / camera.fl_x, -(row - camera.cy) / camera.fl_y, -np.ones(column.shape)],
        axis=-1,
    )
    rays = local.reshape(-1, 3) @ camera.matrix[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        faces = (grid.aabb[:, None] - camera.eye) / rays
    first = np.nanmax(np.minimum(*faces), axis=1).clip(0)
    last = np.nanmin(np.maximum(*faces), axis=1).clip(max=far)
    hit = last > first
    t = first[hit, None] + (last - first)[hit, None] * np.linspace(0, 1, steps)
    points = camera.eye + t[..., None] * rays[hit, None]
    place = np.floor((points[..., :2] - grid.aabb[0, :2]) / grid.side).astype(int)
    inside = ((place >= 0) & (place < grid.division)).all(axis=-1)
    blocks = np.unique(place[inside] @ [grid.division[1], 1])
    return set(blocks[grid.exists[blocks]].tolist())


def views() -> dict[str, Camera]:
    """Views of the city of all kinds."""
    random = np.random.default_rng(5)
    low, high = GRID.aabb
    middle = (low + high) / 2

    def off(x: float, y: float, z: float) -> np.ndarray:
        return middle + np.array((x, y, z))

    def camera(eye: np.ndarray, target: np.ndarray, roll: float = 0.0, fov: float = 45.0) -> Camera:
        matrix = look_at(eye, target)
        cosine, sine = math.cos(roll), math.sin(roll)
        matrix[:3, :3] = matrix[:3, :3] @ [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]
        return Camera.from_fov(matrix, 24, 16, fov)

    found = {
        "down": camera(off(0.3, 0, 2.0), off(0.3, 0, 0)),
        "down from within": camera(middle, off(0, 0, -1.0)),
        "up from within": camera(middle, off(0, 0, 1.0)),
        "up from below": camera(off(0, 0, -3.0), middle),
        "level within": camera(middle, off(1.0, 0.2, 0)),
        "level above": camera(off(0, 0, 1.0), off(1.0, 0, 1.0)),
        "level far outside": camera(off(-9.0, 0, 0), middle, fov=20.0),
        "sky": camera(off(0, 0, 1.0), off(0.5, 0, 2.0)),
        "away": camera(off(9.0, 0, 0), off(19.0, 0, 0)),
        "on a face": camera(np.array([0.0, 1.6, 0.3]), np.array([2.0, 1.9, 0.3])),
        "on a corner of four": camera(np.array([1.6, 1.6, 0.3]), np.array([3.0, 2.9, 0.1])),
        "wide": camera(off(0, 0, 0.5), off(1, 1, 0), fov=150.0),
        "long lens": camera(off(-4.0, 3.0, 2.0), middle, fov=2.0),
    }
    for number in range(60):
        eye = middle + random.uniform(-1.2, 1.2, 3) * (high - low) * [1, 1, 3]
        target = eye + random.normal(size=3)
        found[f"random {number}"] = camera(eye, target, random.uniform(-3, 3), random.uniform(10, 110))
    return found


VIEWS = views()


@pytest.mark.parametrize("name", VIEWS)
def test_every_block_that_a_ray_crosses_is_visible(name: str) -> None:
    blocks, _ = visible(GRID, VIEWS[name])
    assert crossed(GRID, VIEWS[name]) <= set(blocks.tolist())


def test_hardly_more_than_the_crossed_blocks_is_visible() -> None:
    extra = total = 0
    for camera in VIEWS.values():
        finer = camera.resized(96, 64)
        blocks = set(visible(GRID, finer)[0].tolist())
        extra += len(blocks - crossed(GRID, finer, steps=100))
        total += len(blocks)
    assert total > 300
    assert extra <= 0.05 * total  # the spare pixel all round


@pytest.mark.parametrize("far", [0.4, 1.0, 2.5])
def test_the_far_bound_cuts_conservatively(far: float) -> None:
    fewer = 0
    for camera in VIEWS.values():
        blocks = set(visible(GRID, camera, far)[0].tolist())
        assert crossed(GRID, camera, far) <= blocks
        fewer += len(blocks) < len(visible(GRID, camera)[0])
    assert fewer > 10


def test_a_stretched_camera_and_a_shifted_principal_point_are_served() -> None:
    for camera in (VIEWS["random 3"], VIEWS["level within"]):
        changed = replace(camera, fl_x=camera.fl_x * 3, cx=-5.0, cy=30.0)
        assert crossed(GRID, changed) <= set(visible(GRID, changed)[0].tolist())
        matrix = camera.matrix
        matrix[:3, :3] = matrix[:3, :3] @ np.diag([2.0, 2.0, 2.0])
        scaled = replace(camera, c2w=tuple(tuple(row) for row in matrix.tolist()))
        far = crossed(GRID, scaled, 0.5)
        assert far <= set(visible(GRID, scaled, 0.5)[0].tolist())
        assert far == crossed(GRID, camera, 1.0)


def test_each_block_is_named_once_and_contributions_fall() -> None:
    for camera in VIEWS.values():
        blocks, share = visible(GRID, camera)
        assert len(set(blocks.tolist())) == len(blocks) == len(share)
        assert GRID.exists[blocks].all()
        assert (np.diff(share) <= 0).all()
        assert ((share > 0) & (share <= 1)).all()


def test_the_block_around_the_camera_comes_first() -> None:
    pilot = Pilot(GRID)
    for column, row in ((2.4, 1.5), (5.5, 3.6), (0.2, 0.3)):
        blocks, _ = visible(GRID, pilot.ahead(column, row, height=0.3))
        assert blocks[0] == int(column) * 5 + int(row)


def test_near_and_central_blocks_come_before_far_ones_and_those_aside() -> None:
    grid = city_grid((20, 20))
    blocks, _ = visible(grid, Pilot(grid).ahead(2.5, 10.5, height=0.8, drop=0.2))
    rank = {block: number for number, block in enumerate(blocks.tolist())}
    along = [rank[column * 20 + 10] for column in (4, 7, 11, 15)]
    assert along == sorted(along)
    assert rank[6 * 20 + 10] < min(rank[6 * 20 + 7], rank[6 * 20 + 13])


def test_blocks_with_fine_enough_stand_ins_are_left_out() -> None:
    grid = city_grid((40, 40))
    camera = Pilot(grid).ahead(2.5, 20.5, drop=0.2)
    blocks, _ = visible(grid, camera)
    near, _ = visible(grid, camera, detail=1.0)
    assert 0 < len(near) < len(blocks) / 2
    distance = np.hypot(blocks // 40 + 0.5 - 2.5, blocks % 40 + 0.5 - 20.5)
    kept = np.isin(blocks, near)
    assert distance[kept].max() < 1.2 * distance[~kept].min()


def test_nothing_is_visible_in_the_sky_or_behind() -> None:
    assert not len(footprint(GRID, VIEWS["sky"]))
    assert not len(visible(GRID, VIEWS["sky"])[0])
    assert not len(visible(GRID, VIEWS["away"])[0])


def test_a_rectangle_of_the_plan_names_the_blocks_it_touches() -> None:
    assert sorted(blocks_in(GRID, (0.1, 0.1, 0.7, 0.7)).tolist()) == [0]
    assert sorted(blocks_in(GRID, (0.9, 0.9, 2.3, 1.5)).tolist()) == [6, 11]
    assert len(blocks_in(GRID, (-9, -9, 99, 99))) == 35 - 3
    assert not len(blocks_in(GRID, (-9, -9, -1, 99)))
    assert not len(blocks_in(GRID, (6.0, 0, 9, 9)))


def test_the_grid_of_a_field_knows_its_gaps() -> None:
    grid = CityGrid.of(make_field(Shape(division=(2, 3), missing=(4,))))
    assert grid.division == (2, 3)
    assert grid.exists.tolist() == [True, True, True, True, False, True]


def test_what_was_seen_stays_wanted_close_beside_the_view() -> None:
    grid = city_grid((9, 9))
    demand, pilot = ViewDemand(grid), Pilot(grid)
    beside = 3 * 9 + 4
    assert beside not in demand.seen(pilot.down(5.4, 4.5))[0]
    assert beside in demand.seen(pilot.down(4.5, 4.5))[0]
    assert beside in demand.seen(pilot.down(5.4, 4.5))[0]
    assert beside not in demand.seen(pilot.down(5.7, 4.5))[0]
    assert beside not in demand.seen(pilot.down(5.4, 4.5))[0]


def test_a_camera_under_way_leaves_behind_what_is_out_of_view() -> None:
    grid = city_grid((9, 9))
    demand, pilot = ViewDemand(grid), Pilot(grid)
    demand.seen(pilot.down(4.5, 4.5))
    assert 3 * 9 + 4 not in demand.seen(pilot.down(5.4, 4.5), hovers=False)[0]


def test_trembling_does_not_change_the_order() -> None:
    grid = city_grid((30, 30))
    demand, hover = ViewDemand(grid), Pilot(grid).hover(15.0, 15.0, 0.02)
    for number in range(100):
        demand.seen(hover(number / 30))
    orders = {tuple(demand.seen(hover(number / 30))[0].tolist()) for number in range(100, 200)}
    assert len(orders) == 1


def test_hidden_blocks_are_set_apart_and_seen_ones_rise() -> None:
    grid = city_grid((20, 20))
    demand, camera = ViewDemand(grid), Pilot(grid).ahead(5.5, 10.5)
    blocks = demand.seen(camera)[0]
    needs = np.full(400, 0.0, dtype=np.float32)
    far, front = blocks[-1], blocks[0]
    needs[far], needs[front] = 0.9, 0.05
    demand.note_needs(needs, is_whole=False)
    assert demand.seen(camera)[0][0] == far
    assert not len(demand.seen(camera)[2])
    demand.note_needs(needs, is_whole=True)
    seen, share, hidden = demand.seen(camera)
    assert seen.tolist() == [far, front]
    assert share.tolist() == pytest.approx([0.9, 0.05])
    assert set(hidden.tolist()) == set(blocks.tolist()) - {far, front}


def test_a_block_that_is_read_elsewhere_is_wanted_until_pictures_read_it_no_more() -> None:
    grid = city_grid((20, 20))
    demand, camera = ViewDemand(grid), Pilot(grid).ahead(5.5, 10.5)
    demand.seen(camera)
    needs = np.full(400, 0.01, dtype=np.float32)
    needs[np.setdiff1d(np.arange(400), visible(grid, camera)[0])] = 0
    needs[399] = 0.5
    demand.note_needs(needs, is_whole=True)
    assert demand.seen(camera)[0][0] == 399
    needs[399] = 0
    demand.note_needs(needs, is_whole=True)
    assert 399 not in demand.seen(camera)[0]
