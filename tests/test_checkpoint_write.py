"""Writing LandMark's files: what is in them, and that they come back as they were."""

from __future__ import annotations

import pickletools
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core.checkpoint import describe, find_checkpoint, open_checkpoint
from landmark_viewer.core.checkpoint.container import read_container
from landmark_viewer.core.checkpoint.metadata import METADATA_KEY
from landmark_viewer.core.checkpoint.unpickle import ByteArray, ConfigRecord
from landmark_viewer.core.checkpoint.write import write_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.render import Backend, Renderer, RenderSettings
from landmark_viewer.core.settings import ModelSettings, Precision, Sampling
from landmark_viewer.core.training.parameters import FieldParameters
from landmark_viewer.core.training.photos import Photos, TrainingData
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.scenes.load import open_scene

from . import small_fields, synthetic

BOUNDS = ((-1.0, -0.8, -0.1), (1.4, 0.8, 0.7))  # 2.4 x 1.6 x 0.8 scene units
GRID = (12, 8, 4)
SMALL = TrainSettings(
    levels=(1, 2),
    density_channels=(4, 5, 6),
    appearance_channels=(6, 7, 9),
    feature_dim=5,
    decoder_width=16,
    feature_pe=1,
    view_pe=1,
    activation="relu",
    white_background=True,
    voxels_start=390,  # a little more than those of GRID
    nerf_depth=6,
    nerf_width=8,
    nerf_frequencies=2,
    n_importance=24,
    nerf_n_importance=6,
)
RUN = {"iterations": 700, "styles": {"day": 0, "dusk": 2}, "scene_from_source": np.eye(4)}


def make(n_codes: int = 3, mask: bool = False, nerf: bool = False, **changes: Any) -> FieldParameters:
    """Returns a field of GRID with random numbers in it."""
    settings = replace(SMALL, **changes)
    nothing = Photos((), (), np.arange(n_codes, dtype=np.int32), None)  # type: ignore[arg-type]
    data = TrainingData(nothing, nothing, BOUNDS, (0.1, 6.0))
    parameters = FieldParameters.create(settings, data, torch.device("cpu"))
    assert tuple(parameters.grid_size) == GRID
    random = torch.Generator().manual_seed(1)
    if mask:
        nodes = (torch.rand(5, 9, 14, generator=random) < 0.6).to(torch.uint8)
        parameters.occupancy = OccupancyGrid(nodes, torch.tensor(BOUNDS))
    if nerf:
        parameters.add_nerf()
    for key, tensor in parameters.named().items():
        if key.startswith("density_plane"):
            tensor *= 6
    return parameters


def write(parameters: FieldParameters, folder: Path) -> tuple[Path, ...]:
    return write_checkpoint(parameters, folder, "city", RUN)


def load(path: Path) -> dict[str, Any]:
    """Reads a file as LandMark does; only merged ones need a class of LandMark's."""
    with synthetic.landmark_classes():
        return torch.load(path, map_location="cpu", weights_only=False)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    state = load(path)["state_dict"]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


# What is in the files

PLANES = {
    "density_plane.0": (1, 4, 8, 12),
    "density_plane.1": (1, 4, 16, 24),
    "density_line.0": (1, 4, 4, 1),
    "density_line.1": (1, 4, 8, 1),
    "app_plane.0": (1, 6, 8, 12),
    "app_plane.1": (1, 6, 16, 24),
    "app_line.0": (1, 6, 4, 1),
    "app_line.1": (1, 6, 8, 1),
}
NETWORKS = {
    "basis_mat.weight": (5, 12),
    "renderModule.mlp.0.weight": (16, 24),
    "renderModule.mlp.2.weight": (16, 16),
    "renderModule.mlp.4.weight": (3, 16),
}
THREE_DIRECTIONS = {
    **{"density_plane.0": (1, 4, 8, 12), "density_line.0": (1, 4, 4, 1)},
    **{"density_plane.1": (1, 5, 4, 12), "density_line.1": (1, 5, 8, 1)},
    **{"density_plane.2": (1, 6, 4, 8), "density_line.2": (1, 6, 12, 1)},
    **{"app_plane.0": (1, 6, 8, 12), "app_line.0": (1, 6, 4, 1)},
    **{"app_plane.1": (1, 7, 4, 12), "app_line.1": (1, 7, 8, 1)},
    **{"app_plane.2": (1, 9, 4, 8), "app_line.2": (1, 9, 12, 1)},
    **NETWORKS,
    "basis_mat.weight": (5, 22),
}
BIASES = {f"renderModule.mlp.{number}.bias": (length,) for number, length in ((0, 16), (2, 16), (4, 3))}
CODES = {"embedding_app.weight": (11500, 48), "renderModule.mlp.0.weight": (16, 72)}
NERF = {
    "nerf.pts_linears.0.weight": (8, 23),  # 3 + 2 * 2 * 3 + 8 density products
    **{f"nerf.pts_linears.{number}.weight": (8, 8) for number in range(1, 5)},
    "nerf.pts_linears.5.weight": (8, 31),
    **{f"nerf.pts_linears.{number}.bias": (8,) for number in range(6)},
    "nerf.views_linears.0.weight": (4, 47),  # 8 + 3 + 2 * 4 * 3 + 12 appearance products
    "nerf.views_linears.1.weight": (4, 4),
    **{f"nerf.views_linears.{number}.bias": (4,) for number in range(2)},
    **{"nerf.feature_linear.weight": (8, 8), "nerf.feature_linear.bias": (8,)},
    **{"nerf.alpha_linear.weight": (1, 8), "nerf.alpha_linear.bias": (1,)},
    **{"nerf.rgb_linear.weight": (3, 4), "nerf.rgb_linear.bias": (3,)},
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {**PLANES, **NETWORKS}),
        ({"levels": (1,), "directions": 3}, THREE_DIRECTIONS),
        ({"bias": True}, {**PLANES, **NETWORKS, **BIASES}),
        ({"nonlinear_density": True}, {**PLANES, **NETWORKS, "basis_den.weight": (1, 8)}),
        ({"appearance_codes": True}, {**PLANES, **NETWORKS, **CODES}),
        ({"nerf": True}, {**PLANES, **NETWORKS, **NERF}),
        ({"mask": True}, {**PLANES, **NETWORKS}),
    ],
    ids=["plain", "3 directions", "bias", "nonlinear", "codes", "nerf", "mask"],
)
def test_a_file_of_one_block_holds_what_landmark_expects(
    tmp_path: Path, options: dict[str, Any], expected: dict[str, tuple[int, ...]]
) -> None:
    paths = write(make(**options), tmp_path)
    assert [path.name for path in paths] == ["city.th", "config.txt"]
    assert shapes(paths[0]) == expected
    root = load(paths[0])
    masks = {"alphaMask.shape", "alphaMask.mask", "alphaMask.aabb"} if options.get("mask") else set()
    assert root.keys() == {"kwargs", "state_dict", METADATA_KEY} | masks


def test_kwargs_are_complete(tmp_path: Path) -> None:
    kwargs = load(write(make(), tmp_path)[0])["kwargs"]
    assert kwargs.pop("aabb").tolist() == torch.tensor(BOUNDS).tolist()
    assert kwargs == {
        "gridSize": [12, 8, 4],
        "density_n_comp": [4],
        "appearance_n_comp": [6],
        "app_dim": 5,
        "density_shift": -10,
        "alphaMask_thres": 1e-4,
        "distance_scale": 25,
        "rayMarch_weight_thres": 0.001,
        "fea2denseAct": "relu",
        "near_far": [0.1, 6.0],
        "step_ratio": 0.5,
        "pos_pe": 6,
        "view_pe": 1,
        "fea_pe": 1,
        "featureC": 16,
    }


def test_the_alpha_mask_is_stored_bit_by_bit(tmp_path: Path) -> None:
    parameters = make(mask=True)
    root = load(write(parameters, tmp_path)[0])
    assert root["alphaMask.shape"] == (1, 1, 5, 9, 14)
    assert root["alphaMask.mask"].dtype == np.uint8
    bits = np.unpackbits(root["alphaMask.mask"])[: 5 * 9 * 14].reshape(5, 9, 14)
    assert (bits == parameters.occupancy.nodes.numpy()).all()
    assert root["alphaMask.aabb"].tolist() == torch.tensor(BOUNDS).tolist()


SUB_PLANES = {
    **{"density_plane.0": (1, 4, 4, 6), "density_plane.1": (1, 4, 8, 12)},
    **{"density_line.0": (1, 4, 4, 1), "density_line.1": (1, 4, 8, 1)},
    **{"app_plane.0": (1, 6, 4, 6), "app_plane.1": (1, 6, 8, 12)},
    **{"app_line.0": (1, 6, 4, 1), "app_line.1": (1, 6, 8, 1)},
}
STACKED = {
    **{"app_line.0": (1, 6, 4, 4), "app_line.1": (1, 6, 8, 4)},
    **{"app_plane.0": (1, 6, 4, 4, 6), "app_plane.1": (1, 6, 4, 8, 12)},
    **{"density_line.0": (1, 4, 4, 4), "density_line.1": (1, 4, 8, 4)},
    **{"density_plane.0": (1, 4, 4, 4, 6), "density_plane.1": (1, 4, 4, 8, 12)},
}


def test_files_of_several_blocks_hold_what_landmark_expects(tmp_path: Path) -> None:
    paths = write(make(division=(2, 2), appearance_codes=True, mask=True), tmp_path)
    assert paths[0].name == "city-merged-stack.th"
    assert {path.name for path in paths} == {
        *(f"city-sub{number}.th" for number in range(4)),
        *(f"city-merged-stack{ending}.th" for ending in ("", "-wo_plane", "-wo_state_dict")),
        "config.txt",
    }
    assert find_checkpoint(tmp_path) == paths[0]
    networks = {**NETWORKS, **CODES}
    wrapped = {key.replace(".", ".module.", 1): shape for key, shape in networks.items()}
    for number in range(4):
        assert shapes(tmp_path / f"city-sub{number}.th") == {**SUB_PLANES, **wrapped}
        assert load(tmp_path / f"city-sub{number}.th")["kwargs"]["gridSize"] == [12, 8, 4]
    merged = shapes(paths[0])
    assert merged == {**STACKED, **networks}
    assert list(merged) == sorted(merged)
    left = {key: shape for key, shape in merged.items() if key == "app_plane.1" or "_plane" not in key}
    assert (
        shapes(tmp_path / "city-merged-stack-wo_plane.th") == left
    )  # with two levels LandMark leaves one in
    for ending in ("", "-wo_plane", "-wo_state_dict"):
        root = load(tmp_path / f"city-merged-stack{ending}.th")
        assert ("state_dict" in root) == (ending != "-wo_state_dict")
        assert root["gridShape"] == {key: torch.Size(shape) for key, shape in STACKED.items()}
        assert root["kwargs"]["gridSize"] == [6, 4, 4]
        assert root["alphaMask.shape"] == (1, 1, 5, 9, 14)


def test_without_planes_three_levels_leave_none(tmp_path: Path) -> None:
    write(make(division=(2, 2), levels=(1, 2, 4)), tmp_path)
    assert not [key for key in shapes(tmp_path / "city-merged-stack-wo_plane.th") if "_plane" in key]


def test_unused_appearance_codes_are_the_mean_of_the_used_ones(tmp_path: Path) -> None:
    parameters = make(appearance_codes=True)
    table = load(write(parameters, tmp_path)[0])["state_dict"]["embedding_app.weight"]
    assert torch.equal(table[:3], parameters.embedding)
    assert torch.allclose(table[3:], parameters.embedding.mean(dim=0).expand(11497, -1), atol=1e-6)


# The container

LANDMARK_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch Size",
    "numpy.core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
    "app.tools.configs PrintableConfig",
}


def test_only_names_that_landmark_has_are_in_the_files(tmp_path: Path) -> None:
    paths = write(make(division=(2, 2), mask=True), tmp_path)
    found = set()
    for path in paths[:-1]:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            opcodes = list(pickletools.genops(archive.read(name)))
            assert opcodes[0][1] == 2  # the protocol
            found |= {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"}
            assert "STACK_GLOBAL" not in {opcode.name for opcode, _, _ in opcodes}
            assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    assert found == LANDMARK_NAMES


def test_storages_are_aligned_and_hold_no_more_than_their_tensor(tmp_path: Path) -> None:
    path = write(make(), tmp_path)[0]
    state = read_container(path).root["state_dict"]
    for tensor in state.values():
        assert tensor.storage_offset() == 0
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    assert path.stat().st_size < sum(tensor.nbytes for tensor in state.values()) + 30_000
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if "/data/" in info.filename:
                file.seek(info.header_offset + 26)
                name, extra = np.frombuffer(file.read(4), dtype="<u2").tolist()
                assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_torch_reads_files_without_landmark(tmp_path: Path) -> None:
    """In a process that has neither LandMark nor this package; merged files need LandMark's class."""
    write(make(), tmp_path / "one")
    write(make(division=(2, 1)), tmp_path / "two")
    code = """
import sys, torch
one = torch.load(sys.argv[1] + "/one/city.th", weights_only=False)
sub = torch.load(sys.argv[1] + "/two/city-sub1.th", weights_only=False)
try:
    torch.load(sys.argv[1] + "/two/city-merged-stack.th", weights_only=False)
except ModuleNotFoundError as error:
    assert error.name == "app", error
print(len(one["state_dict"]), sub["landmark_viewer"]["run"]["iterations"])
assert "landmark_viewer" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == "12 700\n"


def test_merged_files_hold_landmarks_config_objects(tmp_path: Path) -> None:
    path = write(make(division=(2, 1)), tmp_path)[0]
    with synthetic.landmark_classes() as config:
        arguments = torch.load(path, weights_only=False)["kwargs"]["args"]
        records = arguments["config_list"]
        assert [type(record) for record in records] == [config] * 4
    assert (arguments["model_parallel_degree"], arguments["world_size"], arguments["rank"]) == (2, 2, 0)
    assert records[0].expname == "city"
    assert records[0].ckpt is None
    assert records[1].model_name == "GridNeRFBranchParallel"
    assert records[1].resMode == [1, 2]
    assert (records[2].plane_division, records[3].plane_division) == ([2, 1], [2, 1])
    assert records[2].white_bkgd is True
    assert records[3].n_iters == SMALL.iterations


# There and back


def test_checkpoints_name_no_folder_of_the_machine_and_may_hold_half_planes(tmp_path: Path) -> None:
    parameters = make(division=(2, 2), appearance_codes=True, half_planes=True)
    files = write_checkpoint(parameters, tmp_path, "city", {}, photos=Path("/home/somebody/photos"))
    assert "dataroot = /home/somebody\n" in (tmp_path / "config.txt").read_text()
    assert not [path for path in files if path.suffix == ".th" and b"somebody" in path.read_bytes()]
    state = open_checkpoint(files[0], ModelSettings(), ModelSettings()).model
    block = state.blocks[0]
    assert block is not None
    assert block.density_planes[0][0].dtype == torch.float16
    assert block.density_lines[0][0].dtype == torch.float32


def same_fields(parameters: FieldParameters, path: Path) -> None:
    """Asserts that an opened file has the features of the field, bit by bit."""
    mine, opened = parameters.model(), open_checkpoint(path)
    assert opened.notices == ()
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(5))
    points = mine.aabb[0] + points * (mine.aabb[1] - mine.aabb[0])
    assert torch.equal(opened.model.density_feature(points), mine.density_feature(points))
    assert torch.equal(opened.model.appearance_feature(points), mine.appearance_feature(points))
    assert float(opened.model.step) == pytest.approx(float(mine.step), rel=2e-7)
    if parameters.occupancy is not None:
        assert torch.equal(opened.model.occupancy.nodes, parameters.occupancy.nodes)
        assert torch.equal(opened.model.occupancy.aabb, parameters.occupancy.aabb)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": True, "bias": True, "appearance_codes": True},
        {"directions": 3, "nonlinear_density": True, "activation": "softplus", "density_shift": -1.0},
        {"nerf": True, "residual_nerf": True},
    ],
    ids=["codes", "3 directions", "nerf"],
)
def test_one_block_comes_back_as_it_was(tmp_path: Path, options: dict[str, Any]) -> None:
    parameters = make(**options)
    path = write(parameters, tmp_path)[0]
    same_fields(parameters, path)
    same_picture(parameters, path)


def test_blocks_come_back_as_they_were_from_every_layout(tmp_path: Path) -> None:
    parameters = make(division=(2, 2), mask=True, appearance_codes=True)
    *paths, _ = write(parameters, tmp_path)
    for path in paths:
        same_fields(parameters, path)
    same_picture(parameters, tmp_path / "city-merged-stack.th")
    same_picture(parameters, tmp_path / "city-sub0.th")


def same_picture(parameters: FieldParameters, path: Path) -> None:
    """Asserts that an opened file and the field give one picture, but for the rounding of a merged step."""
    settings = RenderSettings(backend=Backend.TORCH)
    camera = small_fields.camera(24, 16)
    models = parameters.model(), open_scene(path).model
    mine, theirs = (Renderer(m, Precision.FULL, "cpu").render(camera, settings).rgb for m in models)
    assert np.ptp(mine) > 0.2  # something is in view
    np.testing.assert_allclose(theirs, mine, atol=2e-5)


@pytest.mark.parametrize("division", [(2, 2), (3, 1)])
def test_a_merged_file_has_the_trained_step(tmp_path: Path, division: tuple[int, int]) -> None:
    """By LandMark's own formula, from nothing but the file."""
    kwargs = load(write(make(division=division), tmp_path)[0])["kwargs"]
    size = kwargs["aabb"][1] - kwargs["aabb"][0]
    step = (size / (torch.tensor(kwargs["gridSize"]) - 1)).mean() * kwargs["step_ratio"]
    trained = (size / (torch.tensor(GRID) - 1)).mean() * SMALL.step_ratio
    assert float(step) == pytest.approx(float(trained), rel=2e-7)


ORACLES = {
    "b_seq_res124_app": ("bb_b_seq_res124_app.th", TrainSettings(levels=(1, 2, 4))),
    "d_branch22_app": ("bb_d_branch22_app-merged-stack.th", TrainSettings(levels=(1, 2, 4), division=(2, 2))),
    "f_seq_nerf_app": ("bb_f_seq_nerf.th", TrainSettings(nerf_from=200)),
}


def of_oracle(path: Path, settings: TrainSettings) -> FieldParameters:
    """Takes over one of LandMark's own files, with the settings it was trained with."""
    model = open_checkpoint(path, ModelSettings(white_background=True)).model
    settings = replace(
        settings,
        density_channels=model.density_channels * 3,
        appearance_channels=model.appearance_channels * 3,
        bias=True,
        appearance_codes=True,
        view_pe=2,
        feature_pe=2,
        activation="relu",
        white_background=True,
    )
    return FieldParameters.from_model(model, settings, n_codes=29)


@pytest.mark.parametrize("case", ORACLES)
def test_a_file_of_landmark_is_written_as_landmark_wrote_it(
    shared_dir: Path, tmp_path: Path, case: str
) -> None:
    file, settings = ORACLES[case]
    original = shared_dir / "oracle" / case / file
    written = write_checkpoint(of_oracle(original, settings), tmp_path, "city", {})[0]
    wanted, got = read_container(original).root, read_container(written).root
    assert got.keys() - {METADATA_KEY} == wanted.keys()
    assert got["state_dict"].keys() == wanted["state_dict"].keys()
    for key, tensor in wanted["state_dict"].items():
        rows = slice(29) if key == "embedding_app.weight" else slice(None)
        assert got["state_dict"][key].shape == tensor.shape
        assert torch.equal(got["state_dict"][key][rows], tensor[rows]), key
    assert got.get("gridShape") == wanted.get("gridShape")
    assert got["alphaMask.shape"] == wanted["alphaMask.shape"]
    assert isinstance(got["alphaMask.mask"], ByteArray)
    assert (got["alphaMask.mask"].values == wanted["alphaMask.mask"].values).all()
    same_kwargs(got["kwargs"], wanted["kwargs"])


def same_kwargs(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert got.keys() == wanted.keys()
    for key in got.keys() - {"aabb", "args", "step_ratio"}:
        assert got[key] == wanted[key], key
    if "args" not in got:
        assert got["step_ratio"] == wanted["step_ratio"]
        return
    assert got["args"].keys() <= wanted["args"].keys()
    for mine, theirs in zip(got["args"]["config_list"], wanted["args"]["config_list"], strict=True):
        assert isinstance(mine, ConfigRecord)
        assert mine.attributes.keys() <= theirs.attributes.keys()
        for key, value in mine.attributes.items():
            known = theirs.attributes[key]
            numbers = isinstance(value, (int, float)) and isinstance(known, (int, float))
            assert value is None or known is None or numbers or type(value) is type(known), key


# What this program adds


def test_inspect_tells_of_the_run(tmp_path: Path) -> None:
    for path in write(make(division=(2, 1), n_codes=3), tmp_path)[:-1]:
        told = dict(describe(path).entries)
        assert re.fullmatch(r"landmark-viewer \S+", told["written by"])
        assert told["iterations"] == "700"
        assert told["styles"] == "day 0, dusk 2"
        assert told["scene from source"].startswith("[1.0, 0.0, 0.0, 0.0]; [0.0, 1.0")
        assert told["from a config"] == "nothing is missing"


def test_a_bare_file_knows_the_settings_that_landmarks_does_not(tmp_path: Path) -> None:
    path = write(make(mask_filter_threshold=0.25), tmp_path)[0]
    opened = open_checkpoint(path)
    assert opened.notices == ()
    assert opened.model.settings == ModelSettings(
        white_background=True,
        sampling=Sampling.BOX,
        n_importance=24,
        nerf_n_importance=6,
        alpha_mask_threshold=0.25,
        near_far=(0.1, 6.0),
        run_nerf=False,
        residual_nerf=False,
    )
    assert open_checkpoint(write(make(nerf=True), tmp_path)[0]).model.settings.run_nerf
    stated = open_checkpoint(path, ModelSettings(white_background=False))
    assert stated.model.settings.white_background is False


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sampling": "sideways"}, "landmark_viewer.render.sampling must be 'box' or 'hull', got 'sideways'"),
        ({"n_importance": -1}, "landmark_viewer.render.n_importance must be an integer not below 1, got -1"),
    ],
)
def test_damaged_settings_are_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = write(make(), tmp_path)[0]
    synthetic.edit(path, lambda root: root[METADATA_KEY]["render"].update(change))
    with pytest.raises(InputError, match=re.escape(sentence)):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "entry", [7, {}, {"format": 99, "render": {"n_importance": -1}}, {"format": 1, "run": 3}]
)
def test_an_entry_of_another_program_is_passed_over(tmp_path: Path, entry: object) -> None:
    path = write(make(), tmp_path)[0]
    synthetic.edit(path, lambda root: root.update({METADATA_KEY: entry}))
    assert open_checkpoint(path).notices  # nothing is stated any more
    describe(path)


def test_metadata_must_be_plain(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="metadata must be plain data, got Tensor"):
        write_checkpoint(make(), tmp_path, "city", {"loss": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
