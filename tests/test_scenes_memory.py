"""scene.yaml's section `memory:`: sizes, refusals, and that it is saved as it was written."""

from __future__ import annotations

import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.scenes.memory_section import size, size_text
from landmark_viewer.scenes.overrides import overridden
from landmark_viewer.scenes.save import scene_text
from landmark_viewer.scenes.schema import SceneSpec, scene_from_mapping
from landmark_viewer.scenes.yaml_file import parse_yaml

FULL = """
version: 1
memory: {device: 4GB, host: 1.5 GiB, detail: 2, neighbour_size: 3, prefetch_seconds: 0.5}
"""


def scene(text: str, *overrides: str) -> SceneSpec:
    data = overridden(parse_yaml(text, "scene.yaml"), overrides)
    return scene_from_mapping(data, "scene.yaml")


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        scene(text, *overrides)
    return str(error.value)


def test_every_key_arrives():
    assert scene(FULL).memory == MemoryBudget(4 * 10**9, 3 * 2**29, 2.0, 3, 0.5)
    assert scene("version: 1").memory == MemoryBudget()


@pytest.mark.parametrize(
    ("written", "n_bytes"),
    [
        ("4GB", 4 * 10**9),
        ("500MB", 5 * 10**8),
        ("500 mb", 5 * 10**8),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("0.5TiB", 2**39),
        ("17B", 17),
        (4096, 4096),
        (4e9, 4 * 10**9),
    ],
)
def test_sizes(written, n_bytes):
    assert size(written) == n_bytes
    assert size(size_text(n_bytes)) == n_bytes


@pytest.mark.parametrize(
    "written", ["4G", "GB", "-1GB", "0", 0, -5, 1.5, True, "4 GB more", "4.GB", "1e9GB", [1], ""]
)
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError):  # noqa: PT011 - parsers say nothing, sections make the sentence
        size(written)


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        (
            "{device: plenty}",
            "scene.yaml: memory.device must be a size such as 4GB, 500MB or a whole number of bytes",
        ),
        ("{host: -1}", "scene.yaml: memory.host must be a size"),
        (
            "{neighbour_size: 2}",
            "scene.yaml: memory.neighbour_size must be an odd whole number from 1 to 1023, got 2",
        ),
        ("{neighbour_size: 0}", "memory.neighbour_size must be an odd"),
        ("{detail: -1}", "memory.detail must be a number, 0 or more, got -1"),
        ("{prefetch_seconds: soon}", "memory.prefetch_seconds must be a number, 0 or more, got 'soon'"),
        ("{devise: 4GB}", "unknown key memory.devise; did you mean memory.device?"),
        ("4GB", "memory must be a mapping of keys to values, got '4GB'"),
    ],
)
def test_refusals_name_the_key(section, wanted):
    assert wanted in refusal(f"version: 1\nmemory: {section}\n")


def test_the_command_line_sets_it():
    assert scene("version: 1", "memory.device=200MB").memory.device == 2 * 10**8
    assert scene(FULL, "memory.neighbour_size=5").memory.neighbour_size == 5
    assert "memory.device must be a size" in refusal(FULL, "memory.device=lots")


@pytest.mark.parametrize("written", ["4GB", "1536MiB", "200MB", "12345"])
def test_sizes_are_saved_as_they_were_written(written):
    spec = scene(f"version: 1\nmemory: {{device: {written}, detail: 1.5}}\n")
    text = scene_text(spec, "scene.yaml")
    assert f"device: {written}" in text
    assert "host" not in text
    assert "prefetch_seconds" not in text
    assert scene(text) == spec


def test_a_scene_that_says_nothing_of_memory_is_saved_without_it():
    assert "memory" not in scene_text(scene("version: 1"), "scene.yaml")
