"""What `inspect` tells of every layout, also of files that cannot render alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from landmark_viewer.core.checkpoint import describe
from landmark_viewer.core.errors import InputError

from . import synthetic


def told(path: Path) -> dict[str, str]:
    description = describe(path)
    assert len(description.lines()) == len(description.entries)
    return dict(description.entries)


@pytest.mark.parametrize("layout", synthetic.LAYOUTS)
def test_every_layout_is_described(tmp_path: Path, layout: str) -> None:
    path = synthetic.write(tmp_path, layout)
    entries = told(path)
    assert entries["file"] == str(path)
    assert entries["bounds"] == "(-1.5, -1, -0.1) to (1.5, 1.2, 0.4) scene units"
    assert entries["levels"] == "2"
    assert entries["directions"] == "1"
    assert entries["channels"].startswith("density [4], appearance [6]")
    assert entries["density"] == "relu, distance scale 25"
    assert entries["alpha mask"].startswith("7 x 6 x 4 vertices, ")


def test_a_sequential_file_in_full(tmp_path: Path) -> None:
    path = synthetic.write(
        tmp_path,
        embedding=3,
        nonlinear=True,
        activation="softplus",
        bias=False,
        nerf=synthetic.NerfShape(),
        mask=None,
    )
    entries = told(path)
    size = entries.pop("size")
    assert size.endswith(" KiB, float32")
    assert entries == {
        "file": str(path),
        "kind": "sequential",
        "files": "city.th",
        "bounds": "(-1.5, -1, -0.1) to (1.5, 1.2, 0.4) scene units",
        "grid size": "12 x 8 x 5 vertices, step ratio 0.5",
        "near, far": "(0.1, 4) scene units",
        "density": "softplus with shift -10, nonlinear density, distance scale 25",
        "blocks": "1",
        "directions": "1",
        "levels": "2",
        "resolution": "12 x 8 (line 5), 24 x 16 (line 10)",
        "channels": "density [4], appearance [6]",
        "decoder": "16 wide, without bias, encodings 2 (feature) and 2 (view)",
        "appearance": "3 rows of 48",
        "NeRF branch": "6 point layers 16 wide, input again after layer 4, 2 view layers",
        "alpha mask": "none",
        "parameters": "19.3 KiB of planes and lines in full precision, 9.7 KiB in half",
        "from a config": "model.white_background, model.sampling, model.alpha_mask_threshold, "
        "model.n_importance, model.nerf_n_importance, model.run_nerf, model.residual_nerf",
        "renders alone": "yes",
    }


def test_lines_are_aligned(tmp_path: Path) -> None:
    lines = describe(synthetic.write(tmp_path)).lines()
    assert lines[1] == "kind           sequential"
    assert lines[2] == "files          city.th"


def test_a_stack_tells_its_division(tmp_path: Path) -> None:
    stated = told(synthetic.write(tmp_path / "a", "merged-stack"))
    assert stated["blocks"] == "4, 2 x 2 by its own config"
    assert stated["from a config"] == "nothing is missing"
    silent = told(synthetic.write(tmp_path / "b", "merged-stack", with_args=False))
    assert silent["blocks"] == "4, division not stated"
    assert silent["from a config"].endswith("model.plane_division")
    assert silent["renders alone"].startswith("no: ")


@pytest.mark.parametrize("layout", ["wo_plane", "wo_state_dict"])
def test_a_file_without_planes_is_described_from_what_it_states(tmp_path: Path, layout: str) -> None:
    path = synthetic.write(tmp_path, layout)
    entries = told(path)
    assert entries["resolution"] == "6 x 4 (line 5), 12 x 8 (line 10)"
    assert entries["renders alone"] == "together with city-merged-stack.th"
    (tmp_path / "city-merged-stack.th").unlink()
    assert told(path)["renders alone"] == (
        f"no: {path}: holds no planes and cannot render alone; "
        "put city-merged-stack.th or the files city-sub0.th, ... beside it"
    )


def test_a_sub_file_of_an_incomplete_set_is_described(tmp_path: Path) -> None:
    synthetic.write(tmp_path, "branch-sub")
    (tmp_path / "city-sub1.th").unlink()
    entries = told(tmp_path / "city-sub2.th")
    assert entries["kind"] == "branch sub files, this is number 2"
    assert entries["files"] == "3 sub files beside each other (0, 2, 3), missing 1"
    assert entries["blocks"] == "1 in this file"
    assert entries["renders alone"].endswith(
        "its set needs 4 sub files, but city-sub1.th is missing beside it"
    )


def test_a_complete_set_tells_how_its_blocks_lie(tmp_path: Path) -> None:
    entries = told(synthetic.write(tmp_path, "plane-sub", division=(3, 2)))
    assert entries["blocks"] == "1 in this file, 6 in the set, 3 x 2 by their sizes"


def test_a_channel_file_tells_its_share(tmp_path: Path) -> None:
    entries = told(synthetic.write(tmp_path, "channel-sub"))
    assert entries["channels"] == "density [4], appearance [6], of which this file holds 2 and 3"
    assert entries["renders alone"] == "together with city-sub1.th"


def test_a_folder_is_described_by_its_checkpoint(tmp_path: Path) -> None:
    synthetic.write(tmp_path, "plane-merged")
    assert told(tmp_path)["kind"] == "plane merged"


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.th").write_text("hello")
    with pytest.raises(InputError, match="must be a zip file written by"):
        describe(tmp_path / "a.th")
