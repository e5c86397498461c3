"""scene.yaml: what is accepted, and what each refusal says."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import ModelSettings, Precision, Sampling
from landmark_viewer.scenes.kinds import Accepted, Kind, Listed, Section, Table, Variants
from landmark_viewer.scenes.schema import ModelSpec, SceneSpec, scene_from_mapping
from landmark_viewer.scenes.sections import section_of
from landmark_viewer.scenes.yaml_file import parse_yaml, read_yaml

FULL = """
version: 1
name: 2024-02-30 # no date, a name
model:
  checkpoint: city.th
  config: config.txt
  white_background: true
  sampling: hull
  n_importance: 64
  nerf_n_importance: 8
  alpha_mask_threshold: 1e-3
  plane_division: [4, 2]
  near_far: [0.1, 4]
  run_nerf: true
  residual_nerf: false
  precision: half
appearance:
  code: 3
  styles: {dawn: 0, dusk: 7}
frame:
  metres_per_unit: 100
  epsg: 25832
  origin: [691000.0, 5335000.0, 515.0]
camera:
  eye: [0, -1, 1]
  target: [0, 0, 0]
  fov_y: 60
background: '#ff8000'
"""


def scene(text: str) -> SceneSpec:
    return scene_from_mapping(parse_yaml(text, "scene.yaml"), "scene.yaml")


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        scene(text)
    return str(error.value)


def test_every_key_of_a_full_scene_arrives():
    spec = scene(FULL)
    assert spec.name == "2024-02-30"
    assert spec.model == ModelSpec(
        checkpoint=Path("city.th"),
        config=Path("config.txt"),
        white_background=True,
        sampling=Sampling.HULL,
        n_importance=64,
        nerf_n_importance=8,
        alpha_mask_threshold=1e-3,
        plane_division=(4, 2),
        near_far=(0.1, 4.0),
        run_nerf=True,
        residual_nerf=False,
        precision=Precision.HALF,
    )
    assert spec.appearance.start == Appearance.of(3)
    assert spec.appearance.styles == (("dawn", Appearance.of(0)), ("dusk", Appearance.of(7)))
    assert spec.frame.metres_per_unit == 100
    assert spec.frame.epsg == 25832
    assert spec.frame.origin == (691000.0, 5335000.0, 515.0)
    assert spec.camera.eye == (0, -1, 1)
    assert spec.camera.fov_y == 60
    assert spec.background == (1.0, 128 / 255, 0.0)


def test_a_version_alone_is_a_scene_and_states_nothing():
    spec = scene("version: 1")
    assert spec.model.settings == ModelSettings()
    assert spec == scene("version: 1\nmodel: {}\ncamera:\nname: null")


def test_the_model_part_has_a_key_for_every_setting():
    assert {f.name for f in fields(ModelSettings)} <= {f.name for f in fields(ModelSpec)}


def test_every_field_says_what_it_accepts():
    def check(accepted: Accepted) -> None:
        if isinstance(accepted, Section):
            if isinstance(accepted.of, type):
                assert set(accepted.accepted) == {f.name for f in fields(accepted.of)}
            for inner in accepted.accepted.values():
                check(inner)
        elif isinstance(accepted, Table | Listed):
            check(accepted.of)
        elif isinstance(accepted, Variants):
            for section in accepted.sections.values():
                check(section)
        else:
            assert isinstance(accepted, Kind)
            assert accepted.expected

    check(section_of(SceneSpec))


@pytest.mark.parametrize(
    ("text", "background"),
    [("white", (1, 1, 1)), ("black", (0, 0, 0)), ("'#000000'", (0, 0, 0)), ("[0, 0.5, 1]", (0, 0.5, 1))],
)
def test_a_background_may_be_written_in_four_ways(text, background):
    assert scene(f"version: 1\nbackground: {text}").background == background


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", ": the file must be a mapping of keys to values, got [1, 2]"),
        ("", ": the file must be a mapping of keys to values, got nothing"),
        ("name: x", ": version must be 1, the version that this program reads, got nothing"),
        ("version: 2", ": version must be 1, the version that this program reads, got 2"),
        ("version: true", ": version must be 1, the version that this program reads, got true"),
        ("version: 1\nbackgruond: white", ": unknown key backgruond; did you mean background?"),
        (
            "version: 1\nmodel: {checkpiont: a}",
            ": unknown key model.checkpiont; did you mean model.checkpoint?",
        ),
        (
            "version: 1\n7: 8",
            ": unknown key 7; known are version, name, model, appearance, frame, camera, background, "
            "memory, dataset, train, edits, measurements",
        ),
        ("version: 1\nmodel: city.th", ": model must be a mapping of keys to values, got 'city.th'"),
        ("version: 1\nmodel: {checkpoint: [a]}", ": model.checkpoint must be a file name, got ['a']"),
        ("version: 1\nmodel: {sampling: cone}", ": model.sampling must be box or hull, got 'cone'"),
        ("version: 1\nmodel: {precision: 16}", ": model.precision must be auto or full or half, got 16"),
        (
            "version: 1\nmodel: {n_importance: 1000000000000}",
            ": model.n_importance must be a whole number from 1 to 16384, got 1000000000000",
        ),
        (
            "version: 1\nmodel: {n_importance: 0x" + "f" * 9000 + "}",
            ": model.n_importance must be a whole number from 1 to 16384, got a huge number",
        ),
        (
            "version: 1\nmodel: {near_far: [4, 0.1]}",
            ": model.near_far must be two numbers with 0 <= near < far, got [4, 0.1]",
        ),
        (
            "version: 1\nmodel: {near_far: [0, .inf]}",
            ": model.near_far must be two numbers with 0 <= near < far, got [0, inf]",
        ),
        (
            "version: 1\nmodel: {alpha_mask_threshold: .nan}",
            ": model.alpha_mask_threshold must be a number from -1 to below 1, got nan",
        ),
        ("version: 1\nmodel: {white_background: 1}", ": model.white_background must be true or false, got 1"),
        (
            "version: 1\nappearance: {code: -1}",
            ": appearance.code must be a whole number, 0 or more, got -1",
        ),
        (
            "version: 1\nappearance: {styles: {dawn: soon}}",
            ": appearance.styles.dawn must be a row of the appearance table, or a mapping such as "
            "{mix: {0: 0.3, 2: 0.7}}, got 'soon'",
        ),
        (
            "version: 1\nappearance: {styles: {no: 3}}",
            ": appearance.styles must have text as keys, got false; put it in quotes",
        ),
        (
            "version: 1\nframe: {metres_per_unit: 0}",
            ": frame.metres_per_unit must be a positive number, got 0",
        ),
        (
            "version: 1\nframe: {epsg: wgs84}",
            ": frame.epsg must be an EPSG code from 1024 to 32767, got 'wgs84'",
        ),
        ("version: 1\ncamera: {fov_y: 270}", ": camera.fov_y must be in (0, 180) degrees, got 270"),
        ("version: 1\ncamera: {eye: [1, 2, 3]}", ": camera must have both eye and target, or neither"),
        (
            "version: 1\ncamera: {eye: [1, 2, 3], target: [1, 2, 3]}",
            ": camera must have a target that differs from eye, got [1.0, 2.0, 3.0] for both",
        ),
        (
            "version: 1\ncamera: {eye: [1, 2], target: [0, 0, 0]}",
            ": camera.eye must be three finite numbers such as [0, 0, 1], got [1, 2]",
        ),
        (
            "version: 1\nbackground: blue",
            ": background must be white, black, '#rrggbb' or three numbers from 0 to 1, got 'blue'",
        ),
        ("version: 1\nname: [" + "a, " * 99 + "]", ": name must be text, got ['a', " + "'a', " * 10 + "'..."),
        ("a: b: c", ", line 1: must be valid YAML, got mapping values are not allowed in this context"),
        ("version: 1\nversion: 1", ", line 2: must be valid YAML, got the key version twice"),
        (
            "version: 1\nname: !!python/name:os.system",
            ", line 2: must not use YAML tags, got tag:yaml.org,2002:python/name:os.system",
        ),
        ("a: &x 1\nb: *x", ", line 1: must not use YAML anchors or aliases"),
        ("[" * 99 + "]" * 99, ", line 1: must be nested at most 32 levels deep"),
        ("name: \x07", ": must be valid YAML, got characters that YAML does not allow"),
        ("version: " + "9" * 5000, ": must hold numbers of reasonable length"),
    ],
)
def test_a_refusal_names_the_key_what_must_hold_and_what_was_got(text, message):
    assert refusal(text) == f"scene.yaml{message}"


def test_repeated_aliases_are_refused_before_they_grow(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(30))
    assert refusal(bomb) == "scene.yaml, line 1: must not use YAML anchors or aliases"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "must be a scene file in UTF-8 text, got binary data"),
        (b"#" * (2**24 + 1), "must be a scene file of at most 16 MiB"),
    ],
)
def test_binary_and_oversized_files_are_refused(tmp_path, content, message):
    path = tmp_path / "scene.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path} {message}"
