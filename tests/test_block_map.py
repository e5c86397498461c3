"""The map of blocks as data: kinds, counts, picture, places under zoom, and words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from landmark_viewer.core.streaming.contracts import BlockKey, BlockState, FetchRecord
from landmark_viewer.viewer.block_map import (
    KINDS,
    NUMBER,
    STANDING,
    STREAMED,
    BlockFacts,
    Kind,
    counts_of,
    palette_of,
    picture,
    standing_kinds,
    streamed_kinds,
)
from landmark_viewer.viewer.plan import (
    Plan,
    block_at,
    block_footprint,
    blocks_in,
    closest,
    footprint_of_view,
    is_inside,
)
from landmark_viewer.viewer.state import Pose
from landmark_viewer.viewer.stream_text import (
    activity_text,
    blocks_text,
    given_up,
    log_line,
    of_total,
    rate_of,
    resident_text,
    totals_text,
)

from .stream_statuses import city_of, status_of

# Red is the number of the kind; green tells inside (1) from edge (2).
PALETTE = palette_of({kind: ((NUMBER[kind], 1, 0, 255), (NUMBER[kind], 2, 0, 255)) for kind in KINDS})
INSIDE, EDGE = 1, 2
DISK, HOST, DEVICE = BlockState.DISK, BlockState.HOST, BlockState.DEVICE
NOTHING_SEEN = np.zeros(4, bool)


def names(kinds: np.ndarray) -> list[Kind]:
    """Returns kinds by their numbers."""
    return [KINDS[number] for number in kinds]


def record(number: int, finished: float, error: str | None = None) -> FetchRecord:
    """Returns a fetch of 30 MB in a tenth of a second."""
    return FetchRecord(BlockKey(number), 30_000_000, 0.1, finished, error)


def test_every_state_is_a_kind_of_its_own():
    states = [*BlockState, None]
    kinds = names(streamed_kinds(status_of(states), np.zeros(len(states), bool)))
    assert kinds == [
        Kind.DISK,
        Kind.HOST,
        Kind.LOADING,
        Kind.EXACT,
        Kind.EDITED,
        Kind.TUNED,
        Kind.FAILED,
        Kind.MISSING,
    ]


def test_what_is_seen_and_not_there_is_drawn_coarse():
    states = [DISK, HOST, DEVICE, None, BlockState.FETCHING, BlockState.FAILED]
    kinds = names(streamed_kinds(status_of(states), np.ones(6, bool)))
    assert kinds == [Kind.COARSE, Kind.COARSE, Kind.EXACT, Kind.MISSING, Kind.LOADING, Kind.FAILED]


def test_without_streaming_blocks_are_in_memory_in_view_or_missing():
    present, seen = np.array([True, True, False, False]), np.array([True, False, True, False])
    kinds = standing_kinds(present, seen)
    assert names(kinds) == [Kind.IN_VIEW, Kind.IN_MEMORY, Kind.MISSING, Kind.MISSING]
    assert counts_of(kinds, STANDING) == [(Kind.IN_VIEW, 1), (Kind.IN_MEMORY, 1), (Kind.MISSING, 2)]


def test_the_legend_counts_every_block_once_and_keeps_its_lines():
    status = status_of([DEVICE, DEVICE, BlockState.TUNED, None])
    entries = counts_of(streamed_kinds(status, NOTHING_SEEN), STREAMED)
    assert [kind for kind, _ in entries] == [*STREAMED, Kind.TUNED, Kind.MISSING]
    assert sum(count for _, count in entries) == 4
    assert dict(entries)[Kind.EXACT] == 2
    assert dict(entries)[Kind.FAILED] == 0


def test_the_picture_shows_each_block_where_a_click_finds_it(scene_facts):
    scene = city_of(scene_facts, 3)
    plan = Plan.fit(scene, 240)
    kinds = np.arange(9, dtype=np.uint8)
    image = picture(kinds, scene, plan, PALETTE)
    assert image.shape == (plan.height, plan.width, 4)
    for block in range(9):
        x0, y0, x1, y1 = block_footprint(scene, block)
        column, row = plan.to_plan((x0 + x1) / 2, (y0 + y1) / 2)
        assert tuple(image[int(row), int(column)]) == (block, INSIDE, 0, 255)
        assert block_at(scene, *plan.to_scene(column, row)) == block
    assert not image[0].any(), "the margin is clear"
    assert set(np.unique(image[..., 1])) == {0, INSIDE, EDGE}


@pytest.mark.parametrize("line", [1, 2])
def test_blocks_have_edges_and_gaps_between_them(scene_facts, line):
    scene = city_of(scene_facts, 2)
    plan = Plan.fit(scene, 240)
    row = picture(np.zeros(4, np.uint8), scene, plan, PALETTE, line)[plan.height // 4]
    border = round(plan.to_plan(0.0, 0.0)[0])
    assert not row[border - line : border + line].any()
    assert (row[border + line : border + 2 * line, 1] == EDGE).all()
    assert row[border + 2 * line, 1] == INSIDE


def test_ten_thousand_blocks_each_have_a_pixel_at_least(scene_facts):
    scene = city_of(scene_facts, 100)
    plan = Plan.fit(scene, 264)
    states = [DISK] * 10_000
    for block in range(0, 10_000, 97):
        states[block] = BlockState.FAILED
    kinds = streamed_kinds(status_of(states), np.zeros(10_000, bool))
    image = picture(kinds, scene, plan, PALETTE)
    for block in range(10_000):
        x0, y0, x1, y1 = block_footprint(scene, block)
        column, row = plan.to_plan((x0 + x1) / 2, (y0 + y1) / 2)
        assert image[int(row), int(column), 0] == kinds[block]
    assert dict(counts_of(kinds, STREAMED))[Kind.FAILED] == 104


def test_the_picture_follows_zoom_and_pan(scene_facts):
    scene = city_of(scene_facts, 100)
    whole = Plan.fit(scene, 264)
    plan = whole.zoomed(12.0, (100.0, 60.0)).moved(-30.0, 45.0).within(whole, closest(scene, 264))
    kinds = (np.arange(10_000) % 7).astype(np.uint8)
    image = picture(kinds, scene, plan, PALETTE)
    inside = np.argwhere(image[..., 1] == INSIDE)
    assert len(inside) > image.shape[0] * image.shape[1] / 2
    for row, column in inside[:: len(inside) // 200]:
        block = block_at(scene, *plan.to_scene(column + 0.5, row + 0.5))
        assert block is not None
        assert image[row, column, 0] == kinds[block]


def test_zooming_keeps_what_is_under_the_pointer(scene_facts):
    plan = Plan.fit(scene_facts, 240)
    zoomed = plan.zoomed(3.0, (50.0, 200.0))
    assert zoomed.to_scene(50.0, 200.0) == pytest.approx(plan.to_scene(50.0, 200.0))
    assert zoomed.per_unit == pytest.approx(3 * plan.per_unit)
    moved = zoomed.moved(10.0, -20.0)
    assert moved.to_scene(60.0, 180.0) == pytest.approx(plan.to_scene(50.0, 200.0))


def test_the_map_is_never_pushed_out_of_sight_nor_made_too_small_or_too_large(scene_facts):
    scene = city_of(scene_facts, 100)
    whole = Plan.fit(scene, 240)
    most = closest(scene, 240)
    near = whole.zoomed(8.0, (120.0, 120.0))
    for push in ((1e6, 1e6), (-1e6, -1e6), (1e6, -1e6), (0.0, 0.0)):
        plan = near.moved(*push).within(whole, most)
        assert plan.per_unit == pytest.approx(near.per_unit)
        for at in ((0, 0), (plan.width, plan.height)):
            column, row = whole.to_plan(*plan.to_scene(*at))
            assert -1e-6 <= column <= whole.width + 1e-6
            assert -1e-6 <= row <= whole.height + 1e-6
    small = whole.zoomed(0.2, (10.0, 10.0)).within(whole, most)
    assert (small.left, small.top, small.per_unit) == pytest.approx((whole.left, whole.top, whole.per_unit))
    assert whole.zoomed(1e9, (10.0, 10.0)).within(whole, most).per_unit == pytest.approx(most)


def test_a_position_outside_of_the_scene_is_no_block(scene_facts):
    assert block_at(scene_facts, -1.0, -1.0) == 0
    assert block_at(scene_facts, 0.99, 0.99) == 3
    for point in ((1.0, 0.0), (-1.01, 0.0), (0.0, 1.0), (0.0, -2.0)):
        assert block_at(scene_facts, *point) is None


@pytest.mark.parametrize("yaw", [0.0, 0.8, 2.5, 4.0])
def test_the_blocks_in_view_are_those_with_a_probe_inside_the_outline(scene_facts, yaw):
    scene = city_of(scene_facts, 7)
    outline = footprint_of_view(scene, Pose((0.2, -0.3, 0.7), yaw, -1.0, distance=1.0), 1.4)
    seen = blocks_in(scene, outline)
    for block in range(49):
        x0, y0, x1, y1 = block_footprint(scene, block)
        probes = [(x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u in (0.1, 0.5, 0.9) for v in (0.1, 0.5, 0.9)]
        assert seen[block] == any(is_inside(outline, probe) for probe in probes)
    assert 0 < seen.sum() < 49


def test_a_block_says_what_it_is(scene_facts):
    status = status_of(
        [DEVICE, BlockState.FAILED, DISK, None],
        failures=((1, "sub1.safetensors must exist"),),
        prefetching=(2,),
    )
    kinds = [KINDS[number] for number in streamed_kinds(status, NOTHING_SEEN)]
    facts = [BlockFacts.of(scene_facts, block, kinds[block], status, block == 0) for block in range(4)]
    assert facts[0].line == "Block 0, 0  ·  Exact  ·  92 MB  ·  pinned"
    assert facts[1].lines == ["Block 1  ·  column 0, row 1", "Failed", "sub1.safetensors must exist"]
    assert facts[2].line == "Block 1, 0  ·  On disk  ·  wanted soon"
    assert facts[3].line == "Block 1, 1  ·  not in this checkpoint"
    standing = BlockFacts.of(scene_facts, 3, Kind.IN_VIEW, None)
    assert standing.line == "Block 1, 1  ·  in memory"


def test_streaming_is_said_in_a_line():
    there = status_of([DEVICE], n_missing=0)
    assert blocks_text(there) == "14 blocks"
    assert activity_text(there, 84e6) == "14 blocks", "nothing is being fetched"
    busy = status_of([DEVICE], fetching=(3,), failures=((7, "no"), (9, "no")))
    assert activity_text(busy, 84e6) == "12 of 14 blocks  ·  84 MB/s  ·  2 failed"
    assert resident_text(status_of([DEVICE, BlockState.EDITED, DISK, None])) == "2 blocks  ·  1.9 GB"


def test_what_the_budget_costs_is_said_in_sentences():
    assert given_up(status_of([DEVICE])) == []
    assert given_up(status_of([DEVICE], n_beyond=1, pressure=("planes are in half precision",))) == [
        "Planes are in half precision",
        "1 block stays coarse: the memory budget is full",
    ]
    assert given_up(status_of([DEVICE], n_beyond=3))[-1].startswith("3 blocks stay coarse")


@pytest.mark.parametrize(
    ("used", "total", "words"),
    [
        (5.8e9, 8e9, "5.8 of 8 GB"),
        (812e6, 8e9, "812 MB of 8 GB"),
        (0, 2e9, "0 B of 2 GB"),
        (0, 0, "0 of 0 B"),
    ],
)
def test_a_share_of_memory_names_its_units(used, total, words):
    assert of_total(used, total) == words


def test_the_rate_is_that_of_the_last_seconds_and_of_what_arrived():
    records = [record(0, 90.0), record(1, 99.0), record(2, 99.5, "damaged"), record(3, 99.9)]
    assert rate_of(records, 100.0) == pytest.approx(60e6 / 2)
    assert rate_of(records, 200.0) == 0
    assert rate_of((), 100.0) == 0


def test_the_log_says_when_what_and_how_fast_or_why_not():
    clock = datetime(2026, 1, 2, 12, 0, 10)
    words = log_line(record(7, 95.0), 100.0, clock).split()
    assert words == ["12:00:05", "7", "30.0", "MB", "300", "MB/s"]
    failed = log_line(record(8, 95.0, "the checksum must be 1, got 2"), 100.0, clock)
    assert failed.split(maxsplit=2) == ["12:00:05", "8", "failed: the checksum must be 1, got 2"]
    replaced = log_line(replace(record(7, 95.0), key=BlockKey(7, 2)), 100.0, clock)
    assert replaced.endswith("(version 2)")


def test_totals_are_those_since_opening():
    assert totals_text(status_of([DEVICE]), 0) == "Nothing fetched yet"
    status = status_of([DEVICE], fetched_bytes=1_200_000_000, fetch_seconds=6.0)
    assert totals_text(status, 40) == "1.2 GB  ·  mean 200 MB/s"
