import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer.state import RenderStatus
from landmark_viewer.viewer.units import (
    Units,
    bytes_text,
    duration_text,
    figures,
    grouped,
    heading_text,
    nice_length,
    quality_text,
    resolution_text,
)

MAP = Units(100.0, 26915, (574_893.0, 5_187_536.0, 184.0))


def test_positions_are_map_coordinates_where_the_scene_states_them():
    assert MAP.to_map((1.0, -2.0, 0.5)) == (574_993.0, 5_187_336.0, 234.0)
    assert MAP.axis_names == ("Easting", "Northing", "Height")


def test_positions_are_scene_units_where_nothing_is_stated():
    assert Units().to_map((1.0, -2.0, 0.5)) == (1.0, -2.0, 0.5)
    assert Units().axis_names == ("X", "Y", "Z")
    assert Units().length(12.3) == "12.3"


@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_map_coordinates_lead_back_to_the_scene(point):
    assert MAP.from_map(MAP.to_map(point)) == pytest.approx(point, abs=1e-9)


def test_lengths_are_metres_where_the_scale_is_known():
    assert MAP.length(0.123) == "12.3 m"
    assert MAP.length(32.5) == "3 250 m"


@pytest.mark.parametrize(
    ("limit", "length"), [(0.7, 0.5), (1.0, 1.0), (4.99, 2.0), (5.0, 5.0), (87.0, 50.0), (0.00034, 0.0002)]
)
def test_scale_bars_have_round_lengths(limit, length):
    assert nice_length(limit) == pytest.approx(length)


@given(st.floats(1e-6, 1e9))
def test_a_round_length_fits_and_is_not_wasteful(limit):
    assert limit / 2.6 < nice_length(limit) <= limit * (1 + 1e-6)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (3_980_000, "3.98 MB"),
        (446e6, "446 MB"),
        (3.1e9, "3.1 GB"),
    ],
)
def test_bytes_are_written_in_the_unit_that_fits(count, text):
    assert bytes_text(count) == text


def test_numbers_are_grouped_and_zero_has_no_sign():
    assert grouped(5187466.0, 2) == "5 187 466.00"
    assert grouped(-0.0001, 2) == "0.00"
    assert figures(1234.5) == "1 234"


def test_headings_stay_below_a_full_turn():
    assert heading_text(math.radians(359.99)) == "0.0°"
    assert heading_text(math.radians(-8)) == "352.0°"


def test_the_shown_quality_is_said_in_one_line():
    moving = RenderStatus(moving=True, quality=Quality.FAST, scale=0.5)
    assert quality_text(moving) == "moving · ½ res · fast"
    assert quality_text(RenderStatus(progress=0.43)) == "refining 43 %"
    assert quality_text(RenderStatus(finished=True, progress=1.0)) == "exact"
    assert quality_text(RenderStatus(finished=True, scale=0.75)) == "exact · ¾ res"


def test_a_picture_with_stand_ins_is_not_called_exact_without_saying_so():
    assert quality_text(RenderStatus(progress=1.0, coarse=0.3, missing=3)) == "waiting for 3 blocks"
    assert quality_text(RenderStatus(progress=0.5, coarse=0.3, missing=3)) == "refining 50 %"
    assert quality_text(RenderStatus(finished=True, coarse=0.25, beyond=3)) == "exact · 25 % coarse"
    assert quality_text(RenderStatus(finished=True, coarse=0.001, beyond=1)) == "exact · 1 % coarse"


def test_odd_resolutions_are_percentages():
    assert resolution_text(0.375) == "38 % res"
    assert resolution_text(1.0) == "full res"


def test_durations_change_their_unit():
    assert duration_text(21.4) == "21 ms"
    assert duration_text(3800) == "3.8 s"


def test_decimals_tell_positions_apart():
    assert Units().decimals(3.0) == 3
    assert MAP.decimals(3.0) == 1
    assert Units().decimals(0.001) == 6
