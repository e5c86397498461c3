"""Describes a checkpoint for a reader, also one that cannot render alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from .header import Header, LandmarkFile, read_file
from .landmark import STACKED, SUB_FILES, Kind, Opened, open_checkpoint, recognise
from .metadata import described
from .naming import STORE_INDEX, CheckpointName, find_checkpoint
from .weights import NERF_SKIP


@dataclass(frozen=True)
class Description:
    """What `landmark-viewer inspect` prints: label and text of every line, in order."""

    path: Path
    entries: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Returns the lines, labels padded to one width."""
        width = max(len(label) for label, _ in self.entries)
        return [f"{label:<{width}}  {text}" for label, text in self.entries]


def describe(path: Path) -> Description:
    """Describes the named file and the set that it belongs to, reading no planes."""
    if path.is_dir():
        path = find_checkpoint(path)
    if path.name == STORE_INDEX:
        return _describe_store(path)
    file = read_file(path)
    kind = recognise(file)
    opened = _try_to_open(path)
    entries = [
        ("file", str(path)),
        ("kind", _kind_text(file, kind)),
        ("files", _files_text(file, kind)),
        ("size", f"{shown_bytes(file.container.n_bytes)}, {_dtypes(file)}"),
        *header_entries(file.header, "basis_den.weight" in (file.tensors or {})),
        *_field_entries(file, kind, opened),
        *_network_entries(file),
        ("alpha mask", _mask_text(file)),
        ("from a config", _missing_text(file, kind)),
        ("renders alone", _renders_text(file, opened)),
        *described(str(path), file.container.root),
    ]
    return Description(path, tuple(entries))


def _describe_store(path: Path) -> Description:
    from ..store.describe import store_entries  # which reads headers as this package does

    return Description(path, tuple(store_entries(path)))


def _try_to_open(path: Path) -> Opened | InputError:
    try:
        return open_checkpoint(path)
    except InputError as error:
        return error


def _kind_text(file: LandmarkFile, kind: Kind) -> str:
    name = CheckpointName.parse(file.path)
    return kind.value if name.index is None else f"{kind.value}, this is number {name.index}"


def _files_text(file: LandmarkFile, kind: Kind) -> str:
    name = CheckpointName.parse(file.path)
    if kind in SUB_FILES and name.index is not None:
        found = name.sub_paths()
        numbers = ", ".join(str(number) for number in found)
        gaps = [str(number) for number in range(max(found)) if number not in found]
        return f"{len(found)} sub files beside each other ({numbers})" + (
            f", missing {', '.join(gaps)}" if gaps else ""
        )
    return file.path.name


def shown_bytes(count: int) -> str:
    """Returns a number of bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _dtypes(file: LandmarkFile) -> str:
    names = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in (file.tensors or {}).values()})
    return " and ".join(names) or "no tensors"


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def header_entries(header: Header, is_nonlinear: bool) -> list[tuple[str, str]]:
    """Returns label and text of what the header says; is_nonlinear: density has a basis."""
    low, high = header.aabb.tolist()
    activation = header.activation
    if header.activation == "softplus":
        activation += f" with shift {header.density_shift:g}"
    if is_nonlinear:
        activation += ", nonlinear density"
    return [
        ("bounds", f"{_numbers(low)} to {_numbers(high)} scene units"),
        (
            "grid size",
            " x ".join(map(str, header.grid_size)) + f" vertices, step ratio {header.step_ratio:g}",
        ),
        ("near, far", _numbers(list(header.near_far)) + " scene units"),
        ("density", f"{activation}, distance scale {header.distance_scale:g}"),
    ]


def _shapes(file: LandmarkFile) -> dict[str, tuple[int, ...]]:
    """Shapes of planes and lines: those in the file, or those it states of its complete form."""
    held = {key: tuple(tensor.shape) for key, tensor in (file.tensors or {}).items()}
    return {**(file.grid_shape or {}), **held}


def _field_entries(file: LandmarkFile, kind: Kind, opened: Opened | InputError) -> list[tuple[str, str]]:
    header, shapes = file.header, _shapes(file)
    n_planes = sum(key.startswith("density_plane.") for key in shapes)
    n_levels = n_planes // header.n_directions
    sizes = []
    for p in range(n_planes):
        plane, line = shapes.get(f"density_plane.{p}", ()), shapes.get(f"density_line.{p}", ())
        if len(plane) >= 4 and len(line) == 4:
            sizes.append(f"{plane[-1]} x {plane[-2]} (line {line[2]})")
    channels = f"density {list(header.density_channels)}, appearance {list(header.appearance_channels)}"
    if kind is Kind.CHANNEL_SUB and "density_plane.0" in shapes and "app_plane.0" in shapes:
        channels += (
            f", of which this file holds {shapes['density_plane.0'][1]} and {shapes['app_plane.0'][1]}"
        )
    return [
        ("blocks", _blocks_text(file, kind, shapes, opened)),
        ("directions", str(header.n_directions)),
        ("levels", f"{n_levels}" if n_levels else "not known without its planes"),
        ("resolution", ", ".join(sizes) or "not known without its planes"),
        ("channels", channels),
        ("parameters", _parameters_text(opened)),
    ]


def _blocks_text(
    file: LandmarkFile, kind: Kind, shapes: dict[str, tuple[int, ...]], opened: Opened | InputError
) -> str:
    if kind in STACKED:
        plane = shapes.get("density_plane.0", ())
        count = str(plane[2]) if len(plane) == 5 else "an unknown number"
        division = file.settings.plane_division
        return f"{count}, " + (
            f"{division[0]} x {division[1]} by its own config" if division else "division not stated"
        )
    if kind not in (Kind.BRANCH_SUB, Kind.PLANE_SUB):
        return "1"
    if isinstance(opened, InputError):
        return "1 in this file"
    columns, rows = opened.model.layout.division
    return f"1 in this file, {columns * rows} in the set, {columns} x {rows} by their sizes"


def _parameters_text(opened: Opened | InputError) -> str:
    if isinstance(opened, InputError):
        return "not known before all files are there"
    full = opened.model.n_parameter_bytes
    return f"{shown_bytes(full)} of planes and lines in full precision, {shown_bytes(full // 2)} in half"


def _network_entries(file: LandmarkFile) -> list[tuple[str, str]]:
    tensors = file.tensors or {}
    if not tensors:
        return [("networks", "none in this file")]
    width = _rows(tensors, "renderModule.mlp.0.weight")
    bias = "with bias" if "renderModule.mlp.0.bias" in tensors else "without bias"
    header = file.header
    decoder = f"{width} wide, {bias}, encodings {header.fea_pe} (feature) and {header.view_pe} (view)"
    rows = _rows(tensors, "embedding_app.weight")
    return [
        ("decoder", decoder if width else "missing"),
        ("appearance", f"{rows} rows of {tensors['embedding_app.weight'].shape[-1]}" if rows else "none"),
        ("NeRF branch", _nerf_text(tensors)),
    ]


def _rows(tensors: dict[str, Tensor], key: str) -> int:
    return tensors[key].shape[0] if key in tensors and tensors[key].dim() == 2 else 0


def _nerf_text(tensors: dict[str, Tensor]) -> str:
    n_points = sum(key.startswith("nerf.pts_linears.") and key.endswith(".weight") for key in tensors)
    n_views = sum(key.startswith("nerf.views_linears.") and key.endswith(".weight") for key in tensors)
    if not n_points:
        return "none"
    skip = f", input again after layer {NERF_SKIP}" if n_points > NERF_SKIP + 1 else ""
    width = _rows(tensors, "nerf.pts_linears.0.weight")
    return f"{n_points} point layers {width} wide{skip}, {n_views} view layers"


def _mask_text(file: LandmarkFile) -> str:
    mask = file.mask()
    if mask is None:
        return "none"
    depth, height, width = mask.nodes.shape
    share = mask.nodes.float().mean().item()
    return f"{width} x {height} x {depth} vertices, {share:.1%} occupied"


# What is missing


def _missing_text(file: LandmarkFile, kind: Kind) -> str:
    names = ["white_background", "sampling", "alpha_mask_threshold", "n_importance"]
    if any(key.startswith("nerf.") for key in file.tensors or {}):
        names += ["nerf_n_importance", "run_nerf", "residual_nerf"]
    if kind in STACKED:
        names.append("plane_division")
    missing = [f"model.{name}" for name in names if getattr(file.settings, name) is None]
    return ", ".join(missing) or "nothing is missing"


def _renders_text(file: LandmarkFile, opened: Opened | InputError) -> str:
    if isinstance(opened, InputError):
        return f"no: {opened}"
    others = [path.name for path in opened.files if path != file.path]
    return f"together with {', '.join(others)}" if others else "yes"
