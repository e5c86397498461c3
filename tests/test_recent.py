"""What is remembered between two starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from landmark_viewer.viewer import recent
from landmark_viewer.viewer.recent import Remembered
from landmark_viewer.viewer.state import Theme


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(recent.FOLDER_VARIABLE, str(tmp_path / "config"))
    return tmp_path / "config"


def test_what_is_saved_is_loaded(folder):
    remembered = Remembered((Path("/a.yaml"), Path("/b.th")), 1280, 800, 10, -20, Theme.LIGHT, Path("/data"))
    recent.save(remembered)
    assert recent.load() == remembered
    assert [path.name for path in folder.iterdir()] == [recent.FILE]


def test_without_a_file_the_defaults_hold(folder):
    assert recent.load() == Remembered()
    assert not folder.exists()


def test_the_folder_is_the_systems_own_unless_the_environment_names_one(monkeypatch):
    monkeypatch.delenv(recent.FOLDER_VARIABLE, raising=False)
    assert recent.config_folder().name == recent.APP


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"', "\x00\xff"])
def test_a_broken_file_costs_only_what_it_held(folder, text):
    folder.mkdir()
    (folder / recent.FILE).write_text(text, encoding="latin-1")
    assert recent.load() == Remembered()
    recent.save(Remembered(width=1000))
    assert recent.load().width == 1000


def test_a_broken_entry_takes_its_default_and_leaves_the_others(folder):
    folder.mkdir()
    data = {
        "recent": ["/a.yaml", 5, ""],
        "width": -3,
        "height": 900,
        "x": "left",
        "theme": "pink",
        "folder": 7,
        "new": 1,
    }
    (folder / recent.FILE).write_text(json.dumps(data))
    assert recent.load() == Remembered((Path("/a.yaml"),), height=900)


def test_a_folder_that_cannot_be_written_is_no_failure(folder, caplog):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where the folder should be")
    recent.save(Remembered())
    assert "cannot be written" in caplog.text
    assert recent.load() == Remembered()
