"""Whatever a file holds, it is read or refused in a sentence; nothing else is ever raised."""

from __future__ import annotations

import contextlib
import json
from typing import get_type_hints

from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.edits.layers import KINDS
from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.landmark_config import USED_OPTIONS, read_landmark_config
from landmark_viewer.scenes.schema import ModelSpec, SceneSpec, scene_from_mapping, scene_to_mapping
from landmark_viewer.scenes.yaml_file import parse_yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)
NUMBERS = st.floats() | st.integers()
MATRICES = st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=4, max_size=4)
CAMERA_KEYS = ["c2w", "width", "height", "fl_x", "fl_y", "cx", "cy", "fov_y"]
SCENE_KEYS = [*get_type_hints(SceneSpec), *get_type_hints(ModelSpec), "eye", "code", "styles", "epsg"]


@settings(deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(CAMERA_KEYS), JSON | MATRICES))
def test_any_json_is_a_camera_or_a_sentence(data):
    with contextlib.suppress(InputError):
        assert Camera.from_json(data).width >= 1


@settings(deadline=None)
@given(st.fixed_dictionaries({"c2w": MATRICES, "width": st.just(4), "height": st.just(3), "fl_x": NUMBERS}))
def test_any_pose_is_a_camera_or_a_sentence(data):
    with contextlib.suppress(InputError):
        assert Camera.from_json(data).fl_x > 0


PARTS = st.dictionaries(st.sampled_from(SCENE_KEYS), JSON)


@settings(deadline=None)
@given(st.text(max_size=60) | st.dictionaries(st.sampled_from(SCENE_KEYS), JSON | PARTS).map(json.dumps))
def test_any_text_is_a_scene_or_a_sentence(text):
    with contextlib.suppress(InputError):
        assert scene_from_mapping(parse_yaml(text, "scene.yaml"), "scene.yaml").version == 1


@settings(deadline=None)
@given(PARTS)
def test_any_model_part_is_a_scene_or_a_sentence(part):
    with contextlib.suppress(InputError):
        assert scene_from_mapping({"version": 1, "model": part}, "scene.yaml").version == 1


LAYER_KEYS = ["name", "enabled", "region", "low", "placements", "source", "appearance", "block", "checkpoint"]
HUGE = st.floats(-3e38, 3e38, allow_nan=False)
CORNERS = st.lists(st.lists(st.floats(-9, 9) | HUGE, min_size=2, max_size=2) | JSON, max_size=5) | JSON
OUTLINES = st.lists(st.lists(HUGE | st.integers(-2, 2), min_size=2, max_size=2), min_size=3, max_size=7)
REGIONS = CORNERS | OUTLINES | st.lists(st.lists(CORNERS, max_size=2), max_size=2)
VALUES = JSON | REGIONS | st.lists(st.fixed_dictionaries({"position": JSON}), max_size=2)
LAYERS = st.builds(
    lambda kind, layer: {"kind": kind, **layer},
    st.sampled_from(list(KINDS)) | JSON,
    st.dictionaries(st.sampled_from(LAYER_KEYS), VALUES) | st.fixed_dictionaries({"region": REGIONS}),
)
MIXES = st.dictionaries(st.integers(-1, 5) | JSON.filter(lambda key: isinstance(key, str)), NUMBERS | JSON)


@settings(deadline=None)
@given(st.lists(LAYERS, max_size=3), st.fixed_dictionaries({"mix": MIXES}) | JSON, JSON | st.lists(PARTS))
def test_any_edits_are_a_scene_or_a_sentence(layers, appearance, measurements):
    data = {"version": 1, "edits": layers, "appearance": appearance, "measurements": measurements}
    for part in ("edits", "appearance", "measurements"):
        with contextlib.suppress(InputError):
            spec = scene_from_mapping({"version": 1, part: data[part]}, "scene.yaml")
            assert scene_from_mapping(scene_to_mapping(spec), "scene.yaml") == spec


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*USED_OPTIONS, "lb", "x"]), st.text(max_size=20))))
def test_any_text_is_a_config_or_a_sentence(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "config.txt"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines), encoding="utf-8")
    with contextlib.suppress(InputError):
        assert read_landmark_config(path).settings.near_far is None
