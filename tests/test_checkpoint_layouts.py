"""Every layout that LandMark writes opens as the same field, and LandMark's own values come out of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from landmark_viewer.core.checkpoint import Opened, find_checkpoint, open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.settings import ModelSettings, Precision, Sampling

from . import synthetic

DIVISION = ModelSettings(plane_division=(2, 2))
ORACLE = {
    "a2_seq_sparsemask": "bb_a2_sparsemask.th",
    "b_seq_res124_app": "bb_b_seq_res124_app.th",
    "d_branch22_app": "bb_d_branch22_app-merged-stack.th",
    "e1_plane21": "bb_e1_plane21-merged.th",
    "f_seq_nerf_app": "bb_f_seq_nerf.th",
}


def points_in(model: GridNeRF, count: int = 400) -> Tensor:
    low, high = model.aabb
    return low + (high - low) * torch.rand(count, 3, generator=torch.Generator().manual_seed(3))


def features(model: GridNeRF, points: Tensor | None = None) -> Tensor:
    """Everything that the planes, lines and networks give at some points."""
    points = points_in(model) if points is None else points
    feature = model.appearance_feature(points)
    latent = model.latent(1) if model.embedding is not None else None
    color = model.color(feature, points - 0.3, latent)
    return torch.cat([model.sigma(points)[:, None], feature, color], dim=1)


# LandMark's own values


@pytest.mark.parametrize("case", list(ORACLE))
def test_probe_points_have_landmarks_values(shared_dir: Path, case: str) -> None:
    folder = shared_dir / "oracle" / case
    model = open_checkpoint(folder / ORACLE[case]).model
    stored = np.load(folder / "oracle.npz")
    probe = {
        key.removeprefix("probe/"): torch.from_numpy(stored[key]) for key in stored.files if "probe/" in key
    }
    points = probe["xyz"]
    feature = model.appearance_feature(points)
    assert model.occupancy is not None
    found = {
        "density_feature": model.density_feature(points),
        "sigma": model.sigma(points),
        "app_feature": feature,
        "alpha": model.occupancy.sample(points),
    }
    for key in probe:
        if key.startswith("rgb_code"):
            found[key] = model.color(
                feature, probe["viewdir"], model.latent(int(key.removeprefix("rgb_code")))
            )
    for key, value in found.items():
        assert (value - probe[key]).abs().max() <= 1e-5, key


def test_files_without_planes_give_the_same_values_as_the_complete_one(shared_dir: Path) -> None:
    folder = shared_dir / "oracle" / "d_branch22_app"
    stem = ORACLE["d_branch22_app"].removesuffix(".th")
    expected = features(open_checkpoint(folder / f"{stem}.th").model)
    for variant in ("wo_plane", "wo_state_dict"):
        opened = open_checkpoint(folder / f"{stem}-{variant}.th")
        assert torch.equal(features(opened.model), expected)
        assert opened.files == (folder / f"{stem}-{variant}.th", folder / f"{stem}.th")


def test_real_sub_files_open_as_one_set(shared_dir: Path) -> None:
    folder = shared_dir / "oracle" / "e1_plane21"
    opened = [open_checkpoint(folder / f"bb_e1_plane21-sub{k}.th") for k in range(2)]
    for one in opened:
        assert one.kind == "plane sub files"
        assert one.model.layout.division == (2, 1)
        assert one.model.n_samples == 257  # as LandMark counted them
        assert one.model.zero_sigma_outside
        assert torch.equal(features(one.model), features(opened[0].model))


# Layouts

KINDS = {
    "sequential": "sequential",
    "branch-sub": "branch sub files",
    "merged-stack": "branch merged-stack",
    "wo_plane": "branch merged-stack without planes",
    "wo_state_dict": "branch merged-stack without state_dict",
    "plane-sub": "plane sub files",
    "plane-merged": "plane merged",
    "channel-sub": "channel sub files",
    "channel-merged": "channel merged",
}


@pytest.mark.parametrize("layout", synthetic.LAYOUTS)
@pytest.mark.parametrize("division", [(2, 2), (3, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("levels", [(1, 2), (1, 2, 4)])
def test_the_same_field_comes_out_of_every_layout(
    tmp_path: Path, layout: str, division: tuple[int, int], levels: tuple[int, ...]
) -> None:
    options = {
        "division": division,
        "levels": levels,
        "embedding": 4,
        "nonlinear": True,
        "nerf": synthetic.NerfShape(),
    }
    expected = open_checkpoint(synthetic.write(tmp_path / "a", seed=5, **options)).model
    opened = open_checkpoint(synthetic.write(tmp_path / "b", layout, seed=5, **options))
    assert opened.kind == KINDS[layout]
    torch.testing.assert_close(features(opened.model), features(expected), rtol=0, atol=2e-6)
    assert opened.model.nerf is not None
    assert opened.model.occupancy is not None
    assert torch.equal(opened.model.occupancy.nodes, expected.occupancy.nodes)


@pytest.mark.parametrize("layout", ["channel-sub", "channel-merged", "sequential"])
def test_three_directions_open(tmp_path: Path, layout: str) -> None:
    options: dict[str, Any] = {"ndims": 3, "density": (4, 2, 6), "appearance": (6, 4, 8), "levels": (1, 2)}
    expected = open_checkpoint(synthetic.write(tmp_path / "a", **options)).model
    model = open_checkpoint(synthetic.write(tmp_path / "b", layout, **options)).model
    assert (model.n_directions, model.n_levels, model.density_channels) == (3, 2, (4, 2, 6))
    assert torch.equal(features(model), features(expected))


def test_channel_files_keep_their_chunks_and_give_the_merged_tables(tmp_path: Path) -> None:
    options: dict[str, Any] = {"ranks": 3, "density": 7, "appearance": 10}  # chunks of 3, 3, 1 and 4, 4, 2
    merged = open_checkpoint(synthetic.write(tmp_path / "a", "channel-merged", **options)).model
    parts = open_checkpoint(synthetic.write(tmp_path / "b", "channel-sub", **options)).model
    assert [len(part) for part in parts.blocks[0].appearance_planes[0]] == [4, 4, 2]
    expected, found = merged.tables(Precision.FULL), parts.tables(Precision.FULL)
    for group in ("density_planes", "density_lines", "appearance_planes", "appearance_lines"):
        for a, b in zip(getattr(expected.blocks[0], group), getattr(found.blocks[0], group), strict=True):
            assert torch.equal(a, b)


def test_tables_hold_the_planes_channel_last_and_padded(tmp_path: Path) -> None:
    model = open_checkpoint(synthetic.write(tmp_path, "merged-stack", density=5)).model
    tables = model.tables(Precision.HALF)
    for number, block in enumerate(model.blocks):
        (plane,) = block.density_planes[1]
        table = tables.blocks[number].density_planes[1]
        assert table.shape == (*plane.shape[1:], 8)
        assert torch.equal(table[..., :5], plane.permute(1, 2, 0).half())
        assert not table[..., 5:].any()


def test_sub_files_have_no_density_outside_their_blocks_but_stacks_have_feature_zero(tmp_path: Path) -> None:
    options = {"activation": "softplus"}
    sub = open_checkpoint(synthetic.write(tmp_path / "a", "branch-sub", **options)).model
    stack = open_checkpoint(synthetic.write(tmp_path / "b", "merged-stack", **options)).model
    edge = torch.tensor([[1.5, 0.1, 0.1]])  # x = upper bound belongs to no block
    assert sub.sigma(edge) == 0
    assert stack.sigma(edge) == torch.nn.functional.softplus(torch.tensor([-10.0]))


def test_grid_size_decides_the_step_as_the_file_states_it(tmp_path: Path) -> None:
    sub = open_checkpoint(synthetic.write(tmp_path / "a", "branch-sub")).model
    stack = open_checkpoint(synthetic.write(tmp_path / "b", "merged-stack")).model
    assert sub.grid_size == (12, 8, 5)  # the whole scene
    assert stack.grid_size == (6, 4, 5)  # one block
    assert stack.step > sub.step


@pytest.mark.parametrize("name", ["sub0", "sub3"])
def test_naming_any_sub_file_opens_the_set(tmp_path: Path, name: str) -> None:
    synthetic.write(tmp_path, "branch-sub")
    opened = open_checkpoint(tmp_path / f"city-{name}.th")
    assert [path.name for path in opened.files] == [f"city-sub{k}.th" for k in range(4)]


def test_a_file_without_planes_takes_them_from_sub_files(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "wo_plane", seed=2)
    expected = features(open_checkpoint(path).model)
    (tmp_path / "city-merged-stack.th").unlink()
    synthetic.write(tmp_path, "branch-sub", seed=2)
    opened = open_checkpoint(path)
    assert [file.name for file in opened.files][:2] == ["city-merged-stack-wo_plane.th", "city-sub0.th"]
    assert torch.equal(features(opened.model), expected)
    assert not opened.model.zero_sigma_outside
    assert opened.model.grid_size == (6, 4, 5)


def test_with_two_levels_one_appearance_plane_stays_in_the_file_without_planes(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "wo_plane", levels=(1, 2))
    with synthetic.landmark_classes():
        held = torch.load(path, weights_only=False)["state_dict"]
    assert "app_plane.1" in held
    assert "density_plane.1" not in held
    open_checkpoint(path)


def test_dtypes_other_than_single_precision_are_converted(tmp_path: Path) -> None:
    expected = features(open_checkpoint(synthetic.write(tmp_path / "a")).model)
    for dtype, tolerance in ((torch.float16, 1e-2), (torch.float64, 1e-6)):
        opened = open_checkpoint(synthetic.write(tmp_path / str(dtype), dtype=dtype, location="cuda:1"))
        torch.testing.assert_close(features(opened.model), expected, rtol=0, atol=tolerance)
        assert opened.model.decoder.basis.dtype is torch.float32


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"mask": None}, lambda m: m.occupancy is None),
        ({"mask": (5, 3, 2)}, lambda m: m.occupancy.nodes.shape == (2, 3, 5)),
        ({"bias": False}, lambda m: all(bias is None for _, bias in m.decoder.layers)),
        ({"embedding": 1}, lambda m: m.embedding.shape == (1, 48)),
        ({"embedding": 30, "latent": 7}, lambda m: m.embedding.shape == (30, 7)),
        ({"nonlinear": True}, lambda m: m.density_basis.shape == (1, 8)),
        ({"activation": "softplus"}, lambda m: m.activation == "softplus"),
        ({"view_pe": -1}, lambda m: m.decoder.view_pe == -1),
        ({"view_pe": 0, "fea_pe": 0}, lambda m: m.decoder.feature_pe == 0),
        ({"nerf": synthetic.NerfShape(frequencies=0)}, lambda m: m.nerf.point_pe == 0),
        ({"nerf": synthetic.NerfShape(), "embedding": 2}, lambda m: (m.nerf.view_pe, m.nerf.skip) == (4, 4)),
        ({"nerf": synthetic.NerfShape(depth=8)}, lambda m: len(m.nerf.point_layers) == 8),
        ({"nerf": synthetic.NerfShape(depth=5)}, lambda m: m.nerf.skip == -1),
        ({"nerf": synthetic.NerfShape(depth=1, view_depth=1)}, lambda m: len(m.nerf.view_layers) == 1),
        ({"levels": (2, 3)}, lambda m: m.n_levels == 2),
    ],
)
def test_every_optional_part_is_found_from_the_tensors(tmp_path: Path, options: Any, check: Any) -> None:
    assert check(open_checkpoint(synthetic.write(tmp_path, **options)).model)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_opens_and_packs(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    layout = draw(st.sampled_from(synthetic.LAYOUTS))
    division = (
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if layout in synthetic.DIVIDED_LAYOUTS else None
    )
    parts = division or (1, 1)
    options = {
        "division": division,
        "ndims": 1 if division else draw(st.sampled_from([1, 3])),
        "levels": tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))),
        "grid": (
            draw(st.integers(2, 6)) * parts[0],
            draw(st.integers(2, 6)) * parts[1],
            draw(st.integers(2, 6)),
        ),
        "density": draw(st.integers(2, 9)),
        "appearance": draw(st.integers(2, 17)),
        "app_dim": draw(st.integers(1, 9)),
        "width": draw(st.integers(1, 20)),
        "view_pe": draw(st.integers(-1, 3)),
        "fea_pe": draw(st.integers(0, 3)),
        "nonlinear": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "embedding": draw(st.integers(0, 3)),
        "mask": draw(st.none() | st.tuples(st.integers(2, 5), st.integers(2, 5), st.integers(2, 5))),
    }
    folder = tmp_path / "x"
    shutil.rmtree(folder, ignore_errors=True)
    model = open_checkpoint(
        synthetic.write(folder, layout, **options), ModelSettings(plane_division=division)
    ).model
    points = points_in(model, 20)
    assert torch.isfinite(model.sigma(points)).all()
    assert model.appearance_feature(points).shape == (20, options["app_dim"])
    tables = model.tables(Precision.HALF)
    assert all(block.density_planes[0].shape[-1] % 8 == 0 for block in tables.blocks)


# Settings


def test_settings_count_before_the_files_own_config_and_that_before_the_defaults(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack", args={"n_importance": 99, "sampling_opt": True})
    scene, config = (
        ModelSettings(white_background=False),
        ModelSettings(white_background=True, n_importance=77),
    )
    opened = open_checkpoint(path, scene, config)
    chosen = opened.model.settings
    assert chosen.white_background is False
    assert chosen.n_importance == 77
    assert chosen.sampling is Sampling.HULL
    assert chosen.plane_division == (2, 2)
    assert chosen.near_far == (0.1, 4.0)
    assert opened.notices == ()


def test_every_default_that_is_assumed_is_told(tmp_path: Path) -> None:
    opened = open_checkpoint(synthetic.write(tmp_path))
    assert opened.notices == (
        "model.white_background is stated nowhere, so LandMark's default false is assumed.",
        "model.sampling is stated nowhere, so LandMark's default box is assumed.",
        "model.alpha_mask_threshold is stated nowhere, so LandMark's default 0.0 is assumed.",
    )


def test_settings_that_do_not_matter_are_not_told(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, mask=None)
    stated = ModelSettings(white_background=True, sampling=Sampling.HULL)
    assert open_checkpoint(path, stated).notices == (
        "model.n_importance is stated nowhere, so LandMark's default 128 is assumed.",
    )


def test_a_nerf_branch_that_is_asked_for_but_absent_is_told(tmp_path: Path) -> None:
    opened = open_checkpoint(synthetic.write(tmp_path), ModelSettings(residual_nerf=True))
    assert "city.th has no NeRF branch, so run_nerf and residual_nerf are ignored." in opened.notices
    assert opened.model.settings.residual_nerf is False


def test_unknown_tensors_are_left_out_and_told(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path)
    synthetic.edit(path, lambda root: root["state_dict"].update({"extra.weight": torch.ones(2)}))
    assert (
        "city.th holds tensors that this program does not know and leaves out: 'extra.weight'."
        in open_checkpoint(path).notices
    )


def test_near_and_far_of_the_settings_replace_those_of_the_file(tmp_path: Path) -> None:
    assert open_checkpoint(synthetic.write(tmp_path), ModelSettings(near_far=(1.0, 2.0))).model.near_far == (
        1,
        2,
    )


def test_a_sequential_file_ignores_the_division(tmp_path: Path) -> None:
    assert open_checkpoint(synthetic.write(tmp_path), DIVISION).model.layout.n_blocks == 1


@pytest.mark.parametrize("division", [(4, 1), (1, 4), (2, 2)])
def test_sub_files_tell_their_division_by_their_sizes(tmp_path: Path, division: tuple[int, int]) -> None:
    path = synthetic.write(tmp_path, "branch-sub", division=division, grid=(16, 12, 5))
    assert open_checkpoint(path).model.layout.division == division


def test_rounded_block_sizes_fit_their_division(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "plane-sub", division=(2, 2), grid=(12, 8, 5), levels=(1,))
    for k in range(4):
        synthetic.edit(
            path.with_name(f"city-sub{k}.th"), lambda root: root["kwargs"].update(gridSize=[13, 8, 5])
        )
    assert open_checkpoint(path).model.layout.division == (2, 2)  # 13 / 2 rounds half to even
    assert open_checkpoint(path, DIVISION).model.layout.division == (2, 2)


# Folders


def test_a_folder_opens_its_complete_merged_file(tmp_path: Path) -> None:
    synthetic.write(tmp_path, "branch-sub")
    assert find_checkpoint(tmp_path).name == "city-sub0.th"
    synthetic.write(tmp_path, "wo_plane")
    synthetic.write(tmp_path, "wo_state_dict")
    assert find_checkpoint(tmp_path).name == "city-merged-stack.th"
    assert open_checkpoint(tmp_path).kind == "branch merged-stack"


def test_a_folder_prefers_the_merged_file_over_its_parts(tmp_path: Path) -> None:
    synthetic.write(tmp_path, "channel-sub")
    synthetic.write(tmp_path, "channel-merged")
    assert find_checkpoint(tmp_path).name == "city-merged.th"


def test_a_folder_of_two_experiments_is_ambiguous(tmp_path: Path) -> None:
    synthetic.write(tmp_path, name="paris")
    synthetic.write(tmp_path, "branch-sub", name="rome")
    with pytest.raises(InputError) as caught:
        find_checkpoint(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: must hold the files of one experiment, but holds 2 (paris, rome); name the file to open"
    )


def test_a_folder_without_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_checkpoint(tmp_path)
    assert str(caught.value) == f"{tmp_path}: must hold a checkpoint (a file ending in .th), but holds none"


# Memory

MEASURE = """
import sys
from pathlib import Path
import torch
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.settings import Precision

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

torch.rand(4, 4).half()
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = status("VmRSS")
model = open_checkpoint(Path(sys.argv[1])).model
tables = model.tables(Precision(sys.argv[2]))
print(status("VmHWM") - before, tables.n_bytes)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    options: dict[str, Any] = {"levels": (1,), "density": 16, "appearance": 32}
    folder = tmp_path_factory.mktemp("large")
    return {
        "sequential": synthetic.write(folder / "a", grid=(1024, 1024, 16), **options),
        "branch-sub": synthetic.write(folder / "b", "branch-sub", grid=(1024, 1024, 16), **options),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("precision", ["full", "half"])
@pytest.mark.parametrize("layout", ["sequential", "branch-sub"])
def test_opening_takes_little_more_memory_than_the_tables(
    large: dict[str, Path], layout: str, precision: str
) -> None:
    command = [sys.executable, "-c", MEASURE, str(large[layout]), precision]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, n_bytes = map(int, output.split())
    assert n_bytes == pytest.approx(201e6 / (1 if precision == "full" else 2), rel=0.02)
    assert peak <= 2.2 * n_bytes


def test_opened_says_what_it_is(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path)
    opened = open_checkpoint(path)
    assert isinstance(opened, Opened)
    assert (opened.kind, opened.files) == ("sequential", (path,))
