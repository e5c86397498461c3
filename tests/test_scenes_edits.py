"""Edits, appearances and measurements in scene.yaml: what is accepted, and that nothing is lost."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.edits.layers import (
    KINDS,
    Copy,
    Crop,
    Hide,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
    Stack,
    kind_of,
)
from landmark_viewer.core.edits.region import MAX_VERTICES, Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.measure import N_POINTS, MeasureKind, Measurement
from landmark_viewer.scenes import yaml_file
from landmark_viewer.scenes.edit_sections import AppearanceSpec
from landmark_viewer.scenes.load import open_scene, open_source
from landmark_viewer.scenes.paths import relocated
from landmark_viewer.scenes.save import save_scene, scene_text
from landmark_viewer.scenes.schema import SceneSpec, scene_from_mapping, scene_to_mapping
from landmark_viewer.scenes.shipped import demo_scene_path
from landmark_viewer.scenes.yaml_file import count_values, parse_yaml

from .synthetic import write

SQUARE = "[[0, 0], [1, 0], [1, 1], [0, 1]]"
UNIT = Region(((((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),),))


def scene(text: str) -> SceneSpec:
    return scene_from_mapping(parse_yaml(f"version: 1\n{text}", "scene.yaml"), "scene.yaml")


def again(spec: SceneSpec) -> SceneSpec:
    """Returns what comes back from a file."""
    return scene_from_mapping(parse_yaml(scene_text(spec, "scene.yaml"), "scene.yaml"), "scene.yaml")


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        scene(text)
    return str(error.value).removeprefix("scene.yaml: ")


# What a file may say


def test_every_kind_of_layer_arrives():
    spec = scene(
        f"""
edits:
- {{kind: remove, name: Tower, region: {SQUARE}, low: 0.5, high: 1e0}}
- {{kind: hide, region: {SQUARE}, enabled: false, locked: true}}
- {{kind: crop, region: [[{SQUARE}, [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4]]], [[[2, 0], [3, 0], [3, 1]]]]}}
- kind: copy
  region: {SQUARE}
  placements: [{{position: [1, 2, 3], heading: -90, scale: 2}}, {{position: [4, 5, 6]}}]
  source: other/scene.yaml
  appearance: 3
- {{kind: replace-block, block: 3, checkpoint: sub3_remove.th, mask: alpha_volume_2.npy}}
- {{kind: restyle, region: {SQUARE}, appearance: {{mix: {{0: 1, 2: 3}}, exposure: -0.5}}}}
"""
    )
    hole = ((0.2, 0.2), (0.4, 0.2), (0.4, 0.4))
    two = Region(((UNIT.polygons[0][0], hole), (((2.0, 0.0), (3.0, 0.0), (3.0, 1.0)),)))
    assert spec.edits == (
        Remove(1, "Tower", prism=Prism(UNIT, 0.5, 1.0)),
        Hide(2, enabled=False, locked=True, prism=Prism(UNIT)),
        Crop(3, prism=Prism(two)),
        Copy(
            4,
            prism=Prism(UNIT),
            placements=(Placement((1.0, 2.0, 3.0), -90.0, 2.0), Placement((4.0, 5.0, 6.0))),
            source=Path("other/scene.yaml"),
            appearance=Appearance.of(3),
        ),
        ReplaceBlock(5, block=3, checkpoint=Path("sub3_remove.th"), mask=Path("alpha_volume_2.npy")),
        Restyle(
            6, prism=Prism(UNIT), appearance=Appearance(((0, 0.25), (2, 0.75)), grade=Grade(exposure=-0.5))
        ),
    )
    assert {kind_of(layer) for layer in spec.edits} == set(KINDS)
    assert again(spec) == spec


def test_an_appearance_is_a_row_a_mix_or_an_embedding_with_a_grade():
    spec = scene(
        """
appearance:
  mix: {0: 0.3, 2: 0.7}
  tint: 0.25
  styles:
    dawn: 4
    dusk: {code: 4, temperature: -1}
    haze: {mix: {1: 2, 0: 2, 5: 0}}
    photo: {latent: [0.5, -1e-7], exposure: 2}
"""
    )
    assert spec.appearance == AppearanceSpec(
        Appearance(((0, 0.3), (2, 0.7)), grade=Grade(tint=0.25)),
        (
            ("dawn", Appearance.of(4)),
            ("dusk", Appearance(((4, 1.0),), grade=Grade(temperature=-1.0))),
            ("haze", Appearance(((1, 0.5), (0, 0.5)))),
            ("photo", Appearance(latent=(0.5, -1e-7), grade=Grade(exposure=2.0))),
        ),
    )
    assert again(spec) == spec


def test_measurements_arrive():
    spec = scene(
        "measurements: [{kind: height, points: [[0, 0, 0], [0, 0, 1]], spreads: [0.1, 0], name: Tower,"
        " rays: [[0, 0, -1], [0, 1, 0]]}, {kind: area, points: [[0, 0, 0], [1, 0, 0], [0, 1, 0]]}]"
    )
    ground, roof = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    assert spec.measurements == (
        Measurement(
            MeasureKind.HEIGHT,
            (ground, roof),
            (0.1, 0.0),
            "Tower",
            ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
        ),
        Measurement(MeasureKind.AREA, (ground, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
    )
    assert again(spec) == spec


def test_what_equals_its_default_is_left_out():
    copy = Copy(7, prism=Prism(UNIT, low=0.25), placements=(Placement((1.0, 2.0, 3.0)),))
    assert scene_to_mapping(SceneSpec(1, edits=(copy, Hide(9, prism=Prism(UNIT))))) == {
        "version": 1,
        "edits": [
            {
                "kind": "copy",
                "region": [[0, 0], [1, 0], [1, 1], [0, 1]],
                "low": 0.25,
                "placements": [{"position": [1, 2, 3]}],
            },
            {"kind": "hide", "region": [[0, 0], [1, 0], [1, 1], [0, 1]]},
        ],
    }


def test_numbers_of_numpy_are_written_as_numbers():
    corners = np.array([[0.1, 0.0], [1.0, 0.0], [1.0, 1.0]])
    prism = Prism(Region.polygon(corners), np.float64(0.1), np.float64(0.7))
    spec = SceneSpec(1, edits=(Hide(1, prism=prism),))
    assert again(spec) == spec


def test_an_outline_that_repeats_its_first_corner_or_crosses_itself_is_mended():
    closed = scene("edits: [{kind: hide, region: [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]}]")
    assert closed.edits == (Hide(1, prism=Prism(UNIT)),)
    (bow,) = scene("edits: [{kind: hide, region: [[0, 0], [1, 1], [1, 0], [0, 1]]}]").edits
    assert len(bow.prism.region.polygons) == 2
    assert bow.prism.region.area == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edits: {}", "edits must be a list of at most 1000 entries, got a mapping"),
        ("edits: [remove]", "edits[0] must be a mapping of keys to values, got 'remove'"),
        (
            f"edits: [{{region: {SQUARE}}}]",
            "edits[0].kind must be remove or hide or crop or copy or replace-block or restyle, got nothing",
        ),
        (
            f"edits: [{{kind: hide, region: {SQUARE}}}, {{kind: delete, region: {SQUARE}}}]",
            "edits[1].kind must be remove or hide or crop or copy or replace-block or restyle, got 'delete'",
        ),
        (
            f"edits: [{{kind: hide, region: {SQUARE}, hihg: 3}}]",
            "unknown key edits[0].hihg; did you mean edits[0].high?",
        ),
        (
            f"edits: [{{kind: hide, region: {SQUARE}, uid: 3}}]",
            "unknown key edits[0].uid; known are name, enabled, locked, region, low, high",
        ),
        ("edits: [{kind: hide, low: 3}]", "edits[0].region must be a list of corners such as "),
        ("edits: [{kind: hide, region: {x: 0}}]", "edits[0].region must be a list of corners such as "),
        ("edits: [{kind: hide, region: [[0, 0], [1, 1]]}]", "edits[0].region must be a list of corners "),
        ("edits: [{kind: hide, region: [[0, 0], [1, 1], [2, 2]]}]", "edits[0].region must be a list of "),
        ("edits: [{kind: hide, region: [[0, 0], [1, .nan], [2, 2]]}]", "edits[0].region must be a list of "),
        (
            f"edits: [{{kind: hide, region: {SQUARE}, low: 2, high: 1}}]",
            "edits[0] must have a low below high, got 2 and 1",
        ),
        (
            f"edits: [{{kind: hide, region: {SQUARE}, low: 1e39}}]",
            "edits[0].low must be a finite number, got 1e+39",
        ),
        (
            f"edits: [{{kind: copy, region: {SQUARE}, placements: [{{heading: 3}}]}}]",
            "edits[0].placements[0].position must be three finite numbers such as [0, 0, 1], got nothing",
        ),
        (
            f"edits: [{{kind: copy, region: {SQUARE}, placements: [{{position: [0, 0, 0], scale: 0}}]}}]",
            "edits[0].placements[0].scale must be a positive number, got 0",
        ),
        (
            "edits: [{kind: replace-block, block: -1, checkpoint: a.th}]",
            "edits[0].block must be a whole number from 0 to 1048575, got -1",
        ),
        (
            "edits: [{kind: replace-block, block: 1}]",
            "edits[0].checkpoint must be a file name, got nothing",
        ),
        (
            f"edits: [{{kind: restyle, region: {SQUARE}, appearance: winter}}]",
            "edits[0].appearance must be a row of the appearance table, or a mapping such as "
            "{mix: {0: 0.3, 2: 0.7}}, got 'winter'",
        ),
        ("appearance: {code: 1, mix: {0: 1}}", "appearance must have only one of code, mix and latent"),
        (
            "appearance: {styles: {a: {latent: [1], code: 1}}}",
            "appearance.styles.a must have only one of code, mix and latent",
        ),
        (
            "appearance: {mix: {0: -1, 1: 2}}",
            "appearance.mix must be at most 1024 rows with weights such as {0: 0.3, 2: 0.7}, not all 0, "
            "got a mapping",
        ),
        ("appearance: {mix: {dawn: 1}}", "appearance.mix must be at most 1024 rows with weights "),
        ("appearance: {mix: {0: 0}}", "appearance.mix must be at most 1024 rows with weights "),
        ("appearance: {latent: []}", "appearance.latent must be a list of at most 4096 numbers, got []"),
        (
            "appearance: {exposure: 17}",
            "appearance.exposure must be a number of stops from -16 to 16, got 17",
        ),
        ("appearance: {tint: 2}", "appearance.tint must be a number from -1 to 1, got 2"),
        (
            "measurements: [{kind: height, points: [[0, 0, 0]]}]",
            "measurements[0] must have 2 points for the kind height, got 1",
        ),
        (
            "measurements: [{kind: area, points: [[0, 0, 0], [1, 0, 0]]}]",
            "measurements[0] must have 3 or more points for the kind area, got 2",
        ),
        (
            "measurements: [{kind: height, points: [[0, 0, 0], [1, 0, 0]], spreads: [1]}]",
            "measurements[0] must have one of spreads for each of 2 points, got 1",
        ),
        (
            "measurements: [{kind: width, points: []}]",
            "measurements[0].kind must be distance or height or polyline or area, got 'width'",
        ),
        (
            "measurements: [{kind: polyline, points: [[0, 0, 0], [1, 0]]}]",
            "measurements[0].points[1] must be three finite numbers such as [0, 0, 1], got [1, 0]",
        ),
    ],
)
def test_a_refusal_names_the_place_what_must_hold_and_what_was_got(text, message):
    assert refusal(text).startswith(message)


def test_a_hostile_file_is_refused_before_it_fills_the_memory():
    corners = ", ".join(f"[{math.cos(a)}, {math.sin(a)}]" for a in np.linspace(0, 6, MAX_VERTICES + 1))
    assert refusal(f"edits: [{{kind: hide, region: [{corners}]}}]").startswith("edits[0].region must be a ")
    with pytest.raises(InputError, match=r"^scene.yaml, line 2: must hold at most 400000 values$"):
        scene(f"name: [{'1,' * 400_000}]")
    layers = ", ".join([f"{{kind: hide, region: {SQUARE}}}"] * 1001)
    assert refusal(f"edits: [{layers}]") == "edits must be a list of at most 1000 entries, got 1001 entries"


def test_what_could_not_be_read_back_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "scene.yaml"
    path.write_text("version: 1\n")
    upside_down = SceneSpec(1, edits=(Hide(1, prism=Prism(UNIT, 1.0, 0.0)),))
    with pytest.raises(InputError, match=r"edits\[0\] must have a low below high, got 1 and 0$"):
        save_scene(path, upside_down)
    large = SceneSpec(1, edits=(Hide(1, prism=Prism(UNIT)),))
    n_values = count_values(scene_to_mapping(large))
    monkeypatch.setattr("landmark_viewer.scenes.save.MAX_VALUES", n_values - 1)
    with pytest.raises(InputError, match=f"must hold at most {n_values - 1} values, got {n_values}"):
        save_scene(path, large)
    assert path.read_text() == "version: 1\n"
    monkeypatch.undo()
    monkeypatch.setattr(yaml_file, "MAX_VALUES", n_values)  # what is counted when writing is what is read
    assert again(large) == large
    monkeypatch.setattr(yaml_file, "MAX_VALUES", n_values - 1)
    with pytest.raises(InputError, match="must hold at most"):
        again(large)


# Nothing is lost

NUMBERS = st.floats(-3e38, 3e38)
NEAR = st.floats(-4, 4)
NAMES = st.text(max_size=12)
WEIGHTS = st.dictionaries(st.integers(0, 9), st.floats(0.01, 5), min_size=1, max_size=4)
GRADES = st.builds(Grade, st.floats(-16, 16), st.floats(-1, 1), st.floats(-1, 1))
APPEARANCES = st.builds(
    lambda mix, grade: replace(Appearance.mixed(mix), grade=grade), WEIGHTS, GRADES
) | st.builds(
    lambda latent, grade: Appearance(latent=tuple(latent), grade=grade),
    st.lists(NUMBERS, min_size=1, max_size=6),
    GRADES,
)


def disc(x: float, y: float, radius: float, n: int) -> shapely.Geometry:
    return shapely.Point(x, y).buffer(radius, quad_segs=n)


DISCS = st.builds(disc, NEAR, NEAR, st.floats(0.01, 2), st.integers(1, 4))
REGIONS = st.builds(
    lambda first, second, cut: Region.of(shapely.union(first, second).difference(cut)), DISCS, DISCS, DISCS
).filter(lambda region: not region.is_empty)
PRISMS = st.builds(
    lambda region, low, rise: Prism(region, low, low + rise),
    REGIONS,
    st.just(-math.inf) | NEAR,
    st.just(math.inf) | st.floats(0.1, 2),
).filter(lambda prism: prism.low < prism.high)
PATHS = st.sampled_from([Path("a.th"), Path("../b c.yaml"), Path("/x/ü.th")])
PLACEMENTS = st.builds(Placement, st.tuples(NUMBERS, NUMBERS, NUMBERS), NUMBERS, st.floats(1e-3, 1e3))
COMMON = {"uid": st.integers(1, 99), "name": NAMES, "enabled": st.booleans(), "locked": st.booleans()}
LAYERS = st.one_of(
    *(st.builds(kind, **COMMON, prism=PRISMS) for kind in (Remove, Hide, Crop)),
    st.builds(
        Copy,
        **COMMON,
        prism=PRISMS,
        placements=st.lists(PLACEMENTS, max_size=3).map(tuple),
        source=st.none() | PATHS,
        appearance=st.none() | APPEARANCES,
    ),
    st.builds(ReplaceBlock, **COMMON, block=st.integers(0, 9), checkpoint=PATHS, mask=st.none() | PATHS),
    st.builds(Restyle, **COMMON, prism=PRISMS, appearance=APPEARANCES),
)
STACKS = st.lists(LAYERS, max_size=4).map(tuple)
POINTS = st.tuples(NUMBERS, NUMBERS, NUMBERS)


@st.composite
def measurements(draw) -> Measurement:
    kind = draw(st.sampled_from(MeasureKind))
    fewest, most = N_POINTS[kind]
    n = draw(st.integers(fewest, most or fewest + 3))
    points, rays = (tuple(draw(POINTS) for _ in range(n)) for _ in range(2))
    spreads = tuple(draw(st.floats(0, 9)) for _ in range(n))
    known = draw(st.booleans())
    return Measurement(kind, points, spreads if known else (), draw(NAMES), rays if known else ())


def packed(layers: Stack) -> bytes:
    """Returns the bits of all outlines."""
    prisms = [layer.prism for layer in layers if hasattr(layer, "prism")]
    outlines = [ring for prism in prisms for rings in prism.region.polygons for ring in rings]
    return b"".join(struct.pack("<2d", *corner) for ring in outlines for corner in ring)


@settings(deadline=None, max_examples=100)
@given(
    STACKS,
    APPEARANCES,
    st.dictionaries(NAMES, APPEARANCES, max_size=3),
    st.lists(measurements(), max_size=3).map(tuple),
)
def test_all_that_a_user_makes_survives_a_file_to_the_last_bit(layers, start, styles, measured):
    appearance = AppearanceSpec(start, tuple(styles.items()))
    spec = SceneSpec(1, appearance=appearance, edits=layers, measurements=measured)
    read = again(spec)
    numbered = tuple(replace(layer, uid=n) for n, layer in enumerate(layers, 1))
    assert read == replace(spec, edits=numbered)
    assert packed(read.edits) == packed(layers)
    assert again(read) == read


# Paths and the model


def test_paths_lead_to_the_same_files_from_another_folder(tmp_path):
    source, target = tmp_path / "a" / "scene.yaml", tmp_path / "b" / "c" / "mine.yaml"
    spec = scene(
        f"""
model: {{checkpoint: city/model.th, config: {tmp_path}/config.txt}}
dataset: {{path: ~/photos}}
edits:
- {{kind: copy, region: {SQUARE}, source: ../other.yaml}}
- {{kind: copy, region: {SQUARE}, source: {tmp_path}/b/near.yaml}}
- {{kind: replace-block, block: 0, checkpoint: sub0_add.th, mask: {demo_scene_path()}}}
"""
    )
    moved = relocated(spec, source, target)
    assert moved.model.checkpoint == Path("../../a/city/model.th")
    assert moved.model.config == tmp_path / "config.txt"  # who names a file in full gets it in full
    assert moved.dataset.path == Path("~/photos")
    first, second, third = moved.edits
    assert (first.source, second.source) == (Path("../../other.yaml"), Path("../near.yaml"))
    assert third.checkpoint == Path("../../a/sub0_add.th")
    assert third.mask == demo_scene_path()  # stays where it is, unlike the scene file


def test_a_path_is_right_from_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "far" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "real")
    spec = scene("model: {checkpoint: city.th}")
    moved = relocated(spec, tmp_path / "scene.yaml", tmp_path / "link" / "scene.yaml")
    (tmp_path / "city.th").touch()
    assert (tmp_path / "link" / moved.model.checkpoint).samefile(tmp_path / "city.th")


def test_the_layers_of_an_open_scene_have_absolute_paths(tmp_path):
    checkpoint = write(tmp_path / "city", embedding=5)
    path = checkpoint.parent / "scene.yaml"
    path.write_text(
        f"version: 1\nmodel: {{checkpoint: {checkpoint.name}}}\n"
        f"edits: [{{kind: copy, region: {SQUARE}, source: ../x/../other.th}}]"
    )
    opened = open_scene(path)
    assert opened.edits[0].source == tmp_path / "other.th"
    assert opened.spec.edits[0].source == Path("../x/../other.th")


def test_rows_and_embeddings_must_suit_the_model(tmp_path):
    path = write(tmp_path / "city", embedding=5)
    dim = open_scene(path).model.embedding.shape[1]
    for override, message in {
        "appearance.mix={0: 1, 5: 1}": "--set: appearance.mix must be from 0 to 4 (the table has 5 rows)",
        "appearance.latent=[1]": f"--set: appearance.latent must be an embedding of {dim} numbers, got 1",
        "appearance.styles={dusk: {mix: {9: 1}}}": "--set: appearance.styles.dusk must be from 0 to 4",
        f"edits=[{{kind: restyle, region: {SQUARE}, appearance: 7}}]": "--set: edits[0].appearance must be ",
    }.items():
        with pytest.raises(InputError) as error:
            open_scene(path, [override])
        assert str(error.value).startswith(message)


def test_a_source_is_a_model_with_its_own_appearance_and_scale(tmp_path):
    checkpoint = write(tmp_path / "city", embedding=5)
    path = checkpoint.parent / "scene.yaml"
    path.write_text(
        f"version: 1\nmodel: {{checkpoint: {checkpoint.name}}}\n"
        "appearance: {mix: {1: 0.5, 4: 0.5}}\nframe: {metres_per_unit: 50}"
    )
    source = open_source(path)
    assert source.appearance == Appearance(((1, 0.5), (4, 0.5)))
    assert source.metres_per_unit == 50
    assert source.model.embedding.shape[0] == 5
    bare = open_source(checkpoint)
    assert (bare.appearance, bare.metres_per_unit) == (Appearance(), None)
