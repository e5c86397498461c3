"""`landmark-viewer city`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.viewer.city_command import main

SMALL = ["--train", "1", "--test", "1", "--size", "16x12", "--samples", "1", "--workers", "1"]


def test_the_command_writes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "town"
    assert main([str(out), *SMALL, "--seed", "3", "--appearances", "0,3"]) == 0
    assert "3 pictures drawn" in capsys.readouterr().out
    city = json.loads((out / "city.json").read_text())
    assert (city["seed"], city["blocks"]) == (3, [2, 2])
    assert city["appearances"] == {"0": "summer noon", "3": "winter snow"}
    assert (out / "test" / "00000_3.png").exists()
    assert main([str(out), *SMALL, "--seed", "3", "--appearances", "0,3"]) == 0
    assert "0 pictures drawn" in capsys.readouterr().out


def test_variants_are_options(tmp_path: Path) -> None:
    out = tmp_path / "town"
    edits = ["--remove", "5005000", "--add", "5005001@50,-20,90", "--add", "5005001@-50,50"]
    assert main([str(out), *SMALL, "--appearances", "5", *edits]) == 0
    city = json.loads((out / "city.json").read_text())
    assert city["removed"] == [5005000]
    assert city["added"][0] == {"building": 5005001, "x": 50.0, "y": -20.0, "degrees": 90.0}
    features = json.loads((out / "buildings.geojson").read_text())["features"]
    assert [feature["properties"]["kind"] for feature in features[-2:]] == ["church", "church"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--blocks", "2by2"], "--blocks must be two whole numbers"),
        (["--blocks", "1x1"], "2x2 to 100x100 blocks"),
        (["--size", "big"], "--size must be two whole numbers"),
        (["--appearances", "noon"], "--appearances must be all or codes"),
        (["--appearances", "7"], "different codes"),
        (["--add", "12"], "--add must be ID@X,Y"),
        (["--add", "12@1,2,3,4"], "--add must be ID@X,Y"),
        (["--remove", "12"], "one of this town's, got 12"),
        (["--workers", "0"], "processes must be 1 to 64"),
        (["--seed", "-4"], "seed must be a whole number"),
    ],
)
def test_wrong_options_are_one_clear_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main([str(tmp_path / "town"), *SMALL, *arguments])
    assert not (tmp_path / "town").exists()
