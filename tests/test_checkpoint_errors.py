"""Broken checkpoints: each is refused in one exact sentence that names the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import ModelSettings

from . import synthetic

Root = dict[str, Any]


def refusal(path: Path, *settings: ModelSettings) -> str:
    with pytest.raises(InputError) as caught:
        open_checkpoint(path, *settings)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def kwargs(**values: Any) -> Callable[[Root], object]:
    return lambda root: root["kwargs"].update(values)


def state(key: str, change: Callable[[Any], Any]) -> Callable[[Root], object]:
    return lambda root: root["state_dict"].update({key: change(root["state_dict"][key])})


def drop(*keys: str) -> Callable[[Root], object]:
    def change(root: Root) -> None:
        for key in keys[:-1]:
            root = root[key]
        del root[keys[-1]]

    return change


def box(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers).view(2, 3)


NAN, INF = float("nan"), float("inf")
MISSING = "is missing, so this is not a complete LandMark file"
BOUNDS = "kwargs.aabb must be finite and its second row must exceed the first, got "
SAMPLES = "kwargs.aabb, gridSize and step_ratio must give fewer than 1048576 samples, got a step of "

BROKEN: dict[str, tuple[Callable[[Root], object], str]] = {
    # top level
    "no kwargs": (drop("kwargs"), f"kwargs {MISSING}"),
    "no state_dict": (drop("state_dict"), f"state_dict {MISSING}"),
    "kwargs is a list": (lambda root: root.update(kwargs=[1]), "kwargs must be a dict, got [1]"),
    "state_dict is a list": (
        lambda root: root.update(state_dict=[torch.ones(2)]),
        "state_dict must be a dict of tensors, got [a tensor of shape (2,)]",
    ),
    "a number among the tensors": (
        lambda root: root["state_dict"].update(step=7),
        "state_dict must map names to tensors, got 'step': 7",
    ),
    "a tensor twice": (
        lambda root: root["state_dict"].update({"basis_mat.module.weight": torch.ones(2)}),
        "state_dict must hold every tensor once, but holds 'basis_mat.weight' twice",
    ),
    # kwargs
    "no aabb": (drop("kwargs", "aabb"), f"kwargs.aabb {MISSING}"),
    "no near_far": (drop("kwargs", "near_far"), f"kwargs.near_far {MISSING}"),
    "no activation": (drop("kwargs", "fea2denseAct"), f"kwargs.fea2denseAct {MISSING}"),
    "aabb of another shape": (
        kwargs(aabb=torch.zeros(3, 2)),
        "kwargs.aabb must be a tensor of shape (2, 3), got a tensor of shape (3, 2)",
    ),
    "aabb is a list": (
        kwargs(aabb=[[0, 0, 0], [1, 1, 1]]),
        "kwargs.aabb must be a tensor of shape (2, 3), got [..., ...]",
    ),
    "NaN bounds": (kwargs(aabb=box(0, 0, NAN, 1, 1, 1)), BOUNDS + "[[0.0, 0.0, nan], [1.0, 1.0, 1.0]]"),
    "infinite bounds": (kwargs(aabb=box(0, 0, 0, 1, 1, INF)), BOUNDS + "[[0.0, 0.0, 0.0], [1.0, 1.0, inf]]"),
    "bounds exchanged": (kwargs(aabb=box(0, 0, 1, 1, 1, 0)), BOUNDS + "[[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]"),
    "flat bounds": (kwargs(aabb=box(0, 0, 0, 1, 1, 0)), BOUNDS + "[[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]"),
    "bounds beyond single precision": (
        kwargs(aabb=box(-3e38, 0, 0, 3e38, 1, 1)),
        SAMPLES + "inf across inf units",
    ),
    "two grid sizes": (kwargs(gridSize=[4, 4]), "kwargs.gridSize must be 3 integers not below 2, got [4, 4]"),
    "a grid of one": (
        kwargs(gridSize=[4, 4, 1]),
        "kwargs.gridSize must be 3 integers not below 2, got [4, 4, 1]",
    ),
    "a fractional grid": (
        kwargs(gridSize=[4.5, 4, 4]),
        "kwargs.gridSize must be 3 integers not below 2, got [4.5, 4, 4]",
    ),
    "a grid of texts": (
        kwargs(gridSize="four"),
        "kwargs.gridSize must be 3 integers not below 2, got 'four'",
    ),
    "an endless grid": (kwargs(gridSize=[2**40] * 3), SAMPLES + "8.64e-13 across 3.75 units"),
    "an integer beyond all sizes": (
        kwargs(gridSize=[10**30, 4, 4]),
        "kwargs.gridSize must be 3 integers not below 2, got [an integer of absurd size, 4, 4]",
    ),
    "a tiny step": (kwargs(step_ratio=1e-9), SAMPLES + "2.37e-10 across 3.75 units"),
    "no step": (kwargs(step_ratio=0), "kwargs.step_ratio must be a finite number above 0, got 0"),
    "NaN step": (kwargs(step_ratio=NAN), "kwargs.step_ratio must be a finite number above 0, got nan"),
    "two directions": (
        kwargs(density_n_comp=[4, 4]),
        "kwargs.density_n_comp must be 1 or 3 integers not below 1, got [4, 4]",
    ),
    "no channels": (
        kwargs(density_n_comp=[0]),
        "kwargs.density_n_comp must be 1 or 3 integers not below 1, got [0]",
    ),
    "directions that disagree": (
        kwargs(appearance_n_comp=[6, 6, 6]),
        "kwargs.appearance_n_comp must be 1 integers not below 1, got [6, 6, 6]",
    ),
    "an unknown activation": (
        kwargs(fea2denseAct="exp"),
        "kwargs.fea2denseAct must be 'softplus' or 'relu', got 'exp'",
    ),
    "near beyond far": (
        kwargs(near_far=[4, 1]),
        "kwargs.near_far must be two finite numbers with 0 <= near < far, got [4, 1]",
    ),
    "a flag for a number": (
        kwargs(density_shift=True),
        "kwargs.density_shift must be a finite number, got True",
    ),
    "too many frequencies": (kwargs(fea_pe=1000), "kwargs.view_pe and fea_pe must not exceed 64 frequencies"),
    "nested without end": (
        kwargs(near_far=[[[[[1]]]], 2]),
        "kwargs.near_far must be two finite numbers with 0 <= near < far, got [..., 2]",
    ),
    # planes and lines
    "no plane": (
        drop("state_dict", "density_plane.0"),
        f"state_dict.density_plane.0 {MISSING} of 1 direction(s)",
    ),
    "a level without appearance": (
        drop("state_dict", "app_plane.1"),
        f"state_dict.app_plane.1 {MISSING} of 1 direction(s)",
    ),
    "a level without line": (
        drop("state_dict", "density_line.1"),
        f"state_dict.density_line.1 {MISSING} of 1 direction(s)",
    ),
    "a plane without its batch": (
        state("density_plane.0", lambda t: t[0]),
        "state_dict.density_plane.0 must have 4 dimensions, the first 1 and none empty, got the "
        "shape [4, 8, 12]",
    ),
    "a plane of integers": (
        state("app_plane.0", lambda t: t.int()),
        "state_dict.app_plane.0 must hold floating-point numbers, got torch.int32",
    ),
    "an empty plane": (
        state("app_plane.0", lambda t: t[:, :, :0]),
        "state_dict.app_plane.0 must have 4 dimensions, the first 1 and none empty, got the shape "
        "[1, 6, 0, 12]",
    ),
    "a wide line": (
        state("app_line.1", lambda t: t.repeat(1, 1, 1, 2)),
        "state_dict.app_line.1 must have the shape (1, channels, length, 1), got [1, 6, 10, 2]",
    ),
    "too few channels": (
        state("app_plane.1", lambda t: t[:, :5]),
        "state_dict.app_plane.1 must have 6 channels as kwargs.appearance_n_comp says, got 5",
    ),
    "planes of different size": (
        state("app_plane.1", lambda t: t[:, :, 1:]),
        "state_dict.app_plane.1 must have 16 x 24 vertices as density_plane.1 says, got 15 x 24",
    ),
    "lines of different length": (
        state("app_line.0", lambda t: t[:, :, 1:]),
        "state_dict.app_line.0 must have 5 vertices as density_line.0 says, got 4",
    ),
    # networks
    "no decoder": (
        drop("state_dict", "renderModule.mlp.2.weight"),
        f"state_dict.renderModule.mlp.2.weight {MISSING}",
    ),
    "one bias missing": (
        drop("state_dict", "renderModule.mlp.4.bias"),
        f"state_dict.renderModule.mlp.4.bias {MISSING}",
    ),
    "a decoder of another input": (
        state("renderModule.mlp.0.weight", lambda t: t[:, 1:]),
        "state_dict.renderModule.mlp.0.weight must have the shape (16, 88) as kwargs.app_dim, "
        "featureC, view_pe, "
        "fea_pe and the appearance table say, got [16, 87]",
    ),
    "a decoder of another width": (
        kwargs(featureC=32),
        "state_dict.renderModule.mlp.0.weight must have the shape (32, 88) as kwargs.app_dim, "
        "featureC, view_pe, "
        "fea_pe and the appearance table say, got [16, 88]",
    ),
    "a bias of another length": (
        state("renderModule.mlp.0.bias", lambda t: t[1:]),
        "state_dict.renderModule.mlp.0.bias must have the shape (16,) as its weight says, got [15]",
    ),
    "a basis of another size": (
        state("basis_mat.weight", lambda t: t[:, 1:]),
        "state_dict.basis_mat.weight must have the shape (5, 12) as kwargs.app_dim and the "
        "appearance planes say, "
        "got [5, 11]",
    ),
    "a density basis of another size": (
        state("basis_den.weight", lambda t: t[:, 1:]),
        "state_dict.basis_den.weight must have the shape (1, 8) as the density planes' levels and "
        "channels say, "
        "got [1, 7]",
    ),
    "an appearance table without rows": (
        state("embedding_app.weight", lambda t: t[:0]),
        "state_dict.embedding_app.weight must have the shape (rows, columns) as one row per image "
        "needs, got [0, 48]",
    ),
    "weights that are no numbers": (
        state("basis_mat.weight", lambda t: t * NAN),
        "state_dict.basis_mat.weight must hold finite numbers; the training has diverged",
    ),
    "a NeRF branch of another input": (
        state("nerf.pts_linears.0.weight", lambda t: t[:, 1:]),
        "state_dict.nerf.pts_linears.0.weight must have as many columns as planes, appearance table "
        "and whole "
        "frequencies need, got the shape [16, 28]",
    ),
    "a NeRF branch without skip": (
        state("nerf.pts_linears.5.weight", lambda t: t[:, :16]),
        "state_dict.nerf.pts_linears.5.weight must have the shape (16, 45) as the layers before it "
        "say, got [16, 16]",
    ),
    "a NeRF branch without colour": (
        drop("state_dict", "nerf.rgb_linear.weight"),
        f"state_dict.nerf.rgb_linear.weight {MISSING}",
    ),
    # alpha mask
    "a mask without box": (drop("alphaMask.aabb"), f"alphaMask.aabb {MISSING}"),
    "a mask without bits": (drop("alphaMask.mask"), f"alphaMask.mask {MISSING}"),
    "a mask of other size": (
        lambda root: root.update({"alphaMask.shape": (1, 1, 9, 9, 9)}),
        "alphaMask.mask must hold 92 bytes for alphaMask.shape [1, 1, 9, 9, 9], got 21",
    ),
    "a mask without end": (
        lambda root: root.update({"alphaMask.shape": (1, 1, 2**40, 2**40, 2**40)}),
        "alphaMask.mask must hold 166153499473114484112975882535043072 bytes for alphaMask.shape "
        "[1, 1, 1099511627776, 1099511627776, 1099511627776], got 21",
    ),
    "a mask of two channels": (
        lambda root: root.update({"alphaMask.shape": (1, 2, 4, 6, 7)}),
        "alphaMask.shape must be (1, 1, depth, height, width), got [1, 2, 4, 6, 7]",
    ),
    "a mask of text": (
        lambda root: root.update({"alphaMask.mask": "bits"}),
        "alphaMask.mask must be an array of bytes, got 'bits'",
    ),
    "a mask box that is empty": (
        lambda root: root.update({"alphaMask.aabb": box(0, 0, 0, 0, 1, 1)}),
        "alphaMask.aabb must be finite and its second row must exceed the first, "
        "got [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]]",
    ),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_sequential_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    change, sentence = BROKEN[name]
    path = synthetic.write(tmp_path, embedding=3, nonlinear=True, nerf=synthetic.NerfShape(), bias=True)
    assert refusal(synthetic.edit(path, change)) == sentence


def test_a_file_that_holds_no_dict_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    torch.save(torch.ones(3), path)
    assert refusal(path) == "must hold the dict that LandMark saves, got a tensor of shape (3,)"


# Sets of files


def test_missing_sub_files_are_named(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    (tmp_path / "city-sub2.th").unlink()
    assert refusal(path) == "its set needs 4 sub files, but city-sub2.th is missing beside it"


def test_missing_last_sub_files_are_named_where_the_division_is_stated(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "plane-sub")
    (tmp_path / "city-sub3.th").unlink()
    division = ModelSettings(plane_division=(2, 2))
    assert refusal(path, division) == "its set needs 4 sub files, but city-sub3.th is missing beside it"


def test_a_division_of_fewer_blocks_than_files_is_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    assert refusal(path, ModelSettings(plane_division=(2, 1))) == (
        "model.plane_division [2, 1] makes 2 blocks, but the set has 4 sub files; "
        "state the division that the checkpoint was trained with"
    )


def test_a_division_that_the_block_sizes_contradict_is_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    assert refusal(path, ModelSettings(plane_division=(4, 1))) == (
        "model.plane_division [4, 1] must divide the 12 x 8 vertices of gridSize into blocks of 6 x 4; "
        "state the division that the checkpoint was trained with"
    )


def test_sub_files_that_fit_no_division_ask_for_it(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    for k in range(4):
        synthetic.edit(tmp_path / f"city-sub{k}.th", kwargs(gridSize=[40, 40, 5]))
    assert refusal(path) == (
        "its 4 blocks can lie in several ways; state model.plane_division in the scene file "
        "or with --set model.plane_division=[columns,rows]"
    )


def test_files_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    other = synthetic.edit(tmp_path / "city-sub1.th", kwargs(step_ratio=0.25))
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert str(caught.value) == (
        f"{other}: must be of the same run as city-sub0.th, but its step_ratio differs; "
        "do not mix the files of two runs"
    )


def test_blocks_of_different_size_are_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub")
    other = tmp_path / "city-sub1.th"
    synthetic.edit(other, state("density_plane.1", lambda t: t[:, :, 1:].clone()))
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert str(caught.value) == (
        f"{other}: state_dict.density_plane.1 must have 8 x 12 vertices as density_plane.1 says, got 7 x 12"
    )


def test_channel_files_must_add_up(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "channel-sub")
    (tmp_path / "city-sub1.th").unlink()
    assert refusal(path) == (
        "state_dict.density_plane.0 must have 4 channels as kwargs.density_n_comp says, got 2"
    )


@pytest.mark.parametrize("layout", ["branch-sub", "plane-sub"])
def test_a_renamed_sub_file_asks_for_its_number(tmp_path: Path, layout: str) -> None:
    path = synthetic.write(tmp_path, layout)
    renamed = path.rename(tmp_path / "block.th")
    assert refusal(renamed) == (
        "must be named <experiment>-sub<number>.th, because the number of its block is in its name only"
    )


# Stacked files


def test_a_stack_without_config_asks_for_its_division(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack", with_args=False)
    assert refusal(path) == (
        "its 4 blocks can lie in several ways and no config says which; state model.plane_division "
        "in the scene "
        "file or with --set model.plane_division=[columns,rows]"
    )
    assert open_checkpoint(path, ModelSettings(plane_division=(2, 2))).model.layout.division == (2, 2)


def test_a_stack_refuses_a_division_of_another_number(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack")
    assert refusal(path, ModelSettings(plane_division=(3, 2))) == (
        "model.plane_division must make 4 blocks, got [3, 2]; "
        "state the division that the checkpoint was trained with"
    )


def test_a_wrong_config_inside_the_file_is_named(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack", args={"plane_division": [2, 0]})
    assert refusal(path) == "kwargs.args.plane_division must be 2 integers not below 1, got [2, 0]"


def test_an_absurd_number_of_samples_is_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack", args={"n_importance": 10**9})
    assert refusal(path) == "model.n_importance must be from 1 to 65536 samples, got 1000000000"


@pytest.mark.parametrize("layout", ["wo_plane", "wo_state_dict"])
def test_a_file_without_planes_cannot_render_alone(tmp_path: Path, layout: str) -> None:
    path = synthetic.write(tmp_path, layout)
    (tmp_path / "city-merged-stack.th").unlink()
    assert refusal(path) == (
        "holds no planes and cannot render alone; put city-merged-stack.th or the files "
        "city-sub0.th, ... beside it"
    )


def test_planes_of_another_run_are_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "wo_plane")
    donor = synthetic.write(tmp_path, "merged-stack", grid=(16, 8, 5))
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert str(caught.value) == (
        f"{donor}: app_plane.0 must have the shape [1, 6, 4, 4, 6] that city-merged-stack-wo_plane.th "
        f"states, "
        "got [1, 6, 4, 4, 8]; do not mix the files of two runs"
    )


def test_a_stack_that_contradicts_its_own_shapes_is_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack")
    synthetic.edit(path, state("app_plane.0", lambda t: t[:, :, :3].clone()))
    assert refusal(path) == (
        "state_dict.app_plane.0 must have the shape that gridShape states, [1, 6, 4, 4, 6], got [1, "
        "6, 3, 4, 6]"
    )


def test_a_stack_with_lines_of_fewer_blocks_is_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack")
    synthetic.edit(path, state("app_line.0", lambda t: t[..., :3].clone()))
    synthetic.edit(path, drop("gridShape"))
    assert refusal(path) == "state_dict.app_line.0 must have 4 blocks as density_plane.0 says, got 3"


def test_several_blocks_with_three_directions_are_refused(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "branch-sub", ndims=3)
    assert refusal(path) == "a field of several blocks must have one direction, got 3 in density_n_comp"


def test_a_grid_size_that_is_not_that_of_the_planes_is_told(tmp_path: Path) -> None:
    path = synthetic.edit(synthetic.write(tmp_path), kwargs(gridSize=[24, 16, 9]))
    assert (
        "city.th states gridSize [24, 16, 9], not the size of its planes; "
        "the sample step follows gridSize, as in LandMark."
    ) in open_checkpoint(path).notices


def test_opening_never_leaves_a_mask_of_wrong_values(tmp_path: Path) -> None:
    opened = open_checkpoint(synthetic.write(tmp_path, mask=(3, 2, 2)))
    assert opened.model.occupancy is not None
    assert set(np.unique(opened.model.occupancy.nodes.numpy())) <= {0, 1}
