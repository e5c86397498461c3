"""Opens any file or set of files that LandMark writes as one GridNeRF."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import reduce
from pathlib import Path

from ..blocks import BlockLayout
from ..errors import InputError
from ..gridnerf import GridNeRF
from ..settings import LANDMARK_DEFAULTS, ModelSettings, Sampling
from .header import Header, LandmarkFile, read_file
from .naming import STORE_INDEX, CheckpointName, find_checkpoint
from .pieces import (
    Pieces,
    channel_pieces,
    fits_grid,
    fitting_divisions,
    make_blocks,
    stacked_pieces,
    whole_pieces,
)
from .values import show
from .weights import StateDict, read_decoder, read_density_basis, read_embedding, read_nerf


class Kind(str, Enum):
    """The layouts that LandMark writes."""

    SEQUENTIAL = "sequential"
    BRANCH_SUB = "branch sub files"
    BRANCH_STACK = "branch merged-stack"
    WITHOUT_PLANES = "branch merged-stack without planes"
    WITHOUT_STATE = "branch merged-stack without state_dict"
    PLANE_SUB = "plane sub files"
    PLANE_MERGED = "plane merged"
    CHANNEL_SUB = "channel sub files"
    CHANNEL_MERGED = "channel merged"


STACKED = (Kind.BRANCH_STACK, Kind.WITHOUT_PLANES, Kind.WITHOUT_STATE)
SUB_FILES = (Kind.BRANCH_SUB, Kind.PLANE_SUB, Kind.CHANNEL_SUB)
DIVIDED = (Kind.BRANCH_SUB, Kind.PLANE_SUB, *STACKED)
MAX_HULL_SAMPLES = 2**16  # per ray


@dataclass(frozen=True)
class Opened:
    """A checkpoint ready to render."""

    model: GridNeRF
    notices: tuple[str, ...]  # sentences for the user: what was assumed or left out
    kind: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Source:
    """The files of one checkpoint, the one named first unless it is a sub file."""

    kind: Kind
    files: tuple[LandmarkFile, ...]
    state: StateDict
    pieces: Pieces

    def release(self) -> None:
        """Drops the resident pages of all files."""
        for file in self.files:
            file.container.release()


def open_checkpoint(path: Path, *settings: ModelSettings) -> Opened:
    """Opens a checkpoint: a file of any layout, one file of a set, or a folder that holds one.

    Args:
        path: The file or folder; also a block store, or its index.
        settings: What the scene and its config state, in falling priority. After them counts what the file
            says of its own run, then LandMark's defaults; each default that is assumed becomes a notice.
    """
    if path.is_dir():
        path = find_checkpoint(path)
    if path.name == STORE_INDEX:
        return _open_store(path, settings)
    file = read_file(path)
    kind = recognise(file)
    stated = reduce(ModelSettings.over, [*settings, file.settings], ModelSettings())
    if kind in SUB_FILES:
        source = _open_set(file, kind, stated)
    elif kind in STACKED:
        source = _open_stack(file, kind)
    else:
        state = StateDict(str(file.path), file.tensors or {})
        source = _Source(kind, (file,), state, whole_pieces([state]))
    return _assemble(file, source, stated)


def _open_store(path: Path, settings: tuple[ModelSettings, ...]) -> Opened:
    from ..store.store import Store  # which reads headers and networks as this package does

    store = Store.open(path.parent)
    model, index = store.model(), store.index
    stated = reduce(ModelSettings.over, [*settings, index.settings], ModelSettings())
    if stated.plane_division not in (None, index.division) and index.n_blocks > 1:
        raise InputError(
            f"{path}: model.plane_division must be {list(index.division)} as the store says, "
            f"got {list(stated.plane_division or ())}; leave it out"
        )
    complete, assumed = _complete(stated, path, index.header, index.mask is not None, model.nerf is not None)
    complete = replace(complete, plane_division=index.settings.plane_division)
    model = replace(model, settings=complete, near_far=complete.near_far or model.near_far)
    return Opened(model, tuple(assumed), f"block store of {index.kind}", (path,))


def recognise(file: LandmarkFile) -> Kind:
    """Tells which layout a file has, from its contents wherever they tell."""
    name = CheckpointName.parse(file.path)
    if file.tensors is None:
        return Kind.WITHOUT_STATE
    plane = file.tensors.get("density_plane.0")
    if plane is None and file.grid_shape is not None:
        return Kind.WITHOUT_PLANES
    if plane is not None and plane.dim() == 5:
        return Kind.BRANCH_STACK
    if name.index is not None and _has_fewer_channels(file):
        return Kind.CHANNEL_SUB
    if file.has_wrapped_lines:
        return Kind.PLANE_SUB
    if name.index is not None:
        return Kind.BRANCH_SUB
    if file.has_args:
        return Kind.PLANE_MERGED
    return Kind.CHANNEL_MERGED if name.variant == "merged" else Kind.SEQUENTIAL


def _has_fewer_channels(file: LandmarkFile) -> bool:
    header, tensors = file.header, file.tensors or {}
    stated = {"density_plane.0": header.density_channels[0], "app_plane.0": header.appearance_channels[0]}
    return any(
        key in tensors and tensors[key].dim() == 4 and tensors[key].shape[1] < channels
        for key, channels in stated.items()
    )


# Sub files


def _open_set(file: LandmarkFile, kind: Kind, stated: ModelSettings) -> _Source:
    paths = _set_paths(file.path, None if kind is Kind.CHANNEL_SUB else stated.plane_division)
    files = tuple(file if path == file.path else read_file(path) for path in paths)
    for other in files:
        _check_same_run(files[0], other)
    states = [StateDict(str(other.path), other.tensors or {}) for other in files]
    pieces = channel_pieces(states) if kind is Kind.CHANNEL_SUB else whole_pieces(states)
    return _Source(kind, files, states[0], pieces)


def _set_paths(path: Path, division: tuple[int, int] | None) -> list[Path]:
    name = CheckpointName.parse(path)
    if name.index is None:
        raise _needs_number(path)
    found = name.sub_paths()
    n_files = max(found) + 1 if division is None else division[0] * division[1]
    missing = [index for index in range(n_files) if index not in found]
    if missing:
        files = ", ".join([name.sub_path(index).name for index in missing[:8]] + ["..."] * bool(missing[8:]))
        raise InputError(f"{path}: its set needs {n_files} sub files, but {files} is missing beside it")
    if len(found) > n_files:
        raise InputError(
            f"{path}: model.plane_division {list(division or ())} makes {n_files} blocks, but the set has "
            f"{len(found)} sub files; state the division that the checkpoint was trained with"
        )
    return list(found.values())


def _needs_number(path: Path) -> InputError:
    return InputError(
        f"{path}: must be named <experiment>-sub<number>{path.suffix}, "
        "because the number of its block is in its name only"
    )


def _check_same_run(first: LandmarkFile, other: LandmarkFile) -> None:
    for field in fields(first.header):
        a, b = getattr(first.header, field.name), getattr(other.header, field.name)
        if (a.tolist() != b.tolist()) if field.name == "aabb" else (a != b):
            raise InputError(
                f"{other.path}: must be of the same run as {first.path.name}, but its {field.name} differs;"
                " do not mix the files of two runs"
            )


# Stacked files


def _open_stack(file: LandmarkFile, kind: Kind) -> _Source:
    if kind is Kind.BRANCH_STACK:
        state = StateDict(str(file.path), file.tensors or {})
        return _Source(kind, (file,), state, stacked_pieces(state))
    files, donor = [file], _find_donor(file)
    files += donor.files
    state = donor.state if kind is Kind.WITHOUT_STATE else StateDict(str(file.path), file.tensors or {})
    own = {} if kind is Kind.WITHOUT_STATE else stacked_pieces(state)
    _check_grid_shape(file, donor.pieces)
    return _Source(kind, tuple(files), state, {**donor.pieces, **own})


def _find_donor(file: LandmarkFile) -> _Source:
    """Opens what a file without planes was taken from: the complete merged-stack, or else the sub files."""
    name = CheckpointName.parse(file.path)
    stack = name.variant_path("merged-stack")
    if stack.is_file():
        return _open_stack(read_file(stack), Kind.BRANCH_STACK)
    subs = name.sub_paths()
    if subs:
        first = read_file(next(iter(subs.values())))
        return _open_set(first, Kind.BRANCH_SUB, ModelSettings())
    raise InputError(
        f"{file.path}: holds no planes and cannot render alone; put {stack.name} or the files "
        f"{name.sub_path(0).name}, ... beside it"
    )


def _check_grid_shape(file: LandmarkFile, pieces: Pieces) -> None:
    for key, shape in (file.grid_shape or {}).items():
        if "_plane." not in key or key not in pieces:
            continue
        blocks = pieces[key]
        found = (1, blocks[0].channels, len(blocks), *blocks[0].size)
        if found != shape:
            raise InputError(
                f"{blocks[0].file}: {key} must have the shape {list(shape)} that {file.path.name} states, "
                f"got {list(found)}; do not mix the files of two runs"
            )


# Assembly


def _assemble(file: LandmarkFile, source: _Source, stated: ModelSettings) -> Opened:
    base = source.files[0] if source.kind in SUB_FILES else file
    header, state = base.header, source.state
    blocks, n_levels = make_blocks(source.pieces, header, state.file)
    if file.has_wrapped_nets and source.kind not in SUB_FILES and not fits_grid(source.pieces, header):
        raise _needs_number(file.path)
    division = _division(source, base, stated.plane_division)
    n_density = n_levels * sum(header.density_channels)
    n_appearance = n_levels * sum(header.appearance_channels)
    embedding = read_embedding(state)
    latent_dim = 0 if embedding is None else embedding.shape[1]
    nerf = read_nerf(state, n_density, n_appearance, latent_dim)
    occupancy = base.mask()
    complete, assumed = _complete(stated, base.path, header, occupancy is not None, nerf is not None)
    model = GridNeRF(
        aabb=header.aabb,
        grid_size=header.grid_size,
        density_channels=header.density_channels,
        appearance_channels=header.appearance_channels,
        n_levels=n_levels,
        layout=BlockLayout(division),
        blocks=blocks,
        decoder=read_decoder(state, header, n_appearance, latent_dim),
        activation=header.activation,
        density_shift=header.density_shift,
        distance_scale=header.distance_scale,
        weight_threshold=header.weight_threshold,
        near_far=complete.near_far or header.near_far,
        step_ratio=header.step_ratio,
        settings=replace(complete, plane_division=division if source.kind in DIVIDED else None),
        density_basis=read_density_basis(state, n_density),
        embedding=embedding,
        nerf=nerf,
        occupancy=occupancy,
        zero_sigma_outside=source.kind in (Kind.BRANCH_SUB, Kind.PLANE_SUB),
        release=source.release,
    )
    notices = (*assumed, *_leftovers(state), *_grid_notice(source, base))
    return Opened(model, notices, source.kind.value, tuple(f.path for f in source.files))


def _division(source: _Source, base: LandmarkFile, stated: tuple[int, int] | None) -> tuple[int, int]:
    if source.kind not in DIVIDED:
        return (1, 1)
    n_blocks = len(source.pieces["density_plane.0"])
    if base.header.n_directions != 1 and n_blocks > 1:
        raise InputError(
            f"{base.path}: a field of several blocks must have one direction, got 3 in density_n_comp"
        )
    if n_blocks == 1:
        return (1, 1)
    how = "state model.plane_division in the scene file or with --set model.plane_division=[columns,rows]"
    if source.kind in STACKED:
        if stated is None:
            raise InputError(
                f"{base.path}: its {n_blocks} blocks can lie in several ways and no config says which; {how}"
            )
        if stated[0] * stated[1] != n_blocks:
            raise InputError(
                f"{base.path}: model.plane_division must make {n_blocks} blocks, got {list(stated)}; "
                "state the division that the checkpoint was trained with"
            )
        return stated
    possible = fitting_divisions(source.pieces, base.header, n_blocks, tolerance=0 if stated is None else 1)
    if stated is None:
        if len(possible) != 1:
            raise InputError(f"{base.path}: its {n_blocks} blocks can lie in several ways; {how}")
        return possible[0]
    if stated not in possible:
        height, width = source.pieces["density_plane.0"][0].size
        raise InputError(
            f"{base.path}: model.plane_division {list(stated)} must divide the {base.header.grid_size[0]} x "
            f"{base.header.grid_size[1]} vertices of gridSize into blocks of {width} x {height}; "
            "state the division that the checkpoint was trained with"
        )
    return stated


def _complete(
    stated: ModelSettings, path: Path, header: Header, has_mask: bool, has_nerf: bool
) -> tuple[ModelSettings, list[str]]:
    """Fills in what nobody stated and says so, where it matters for this file."""
    notices = []
    if not has_nerf and (stated.run_nerf or stated.residual_nerf):
        notices.append(f"{path.name} has no NeRF branch, so run_nerf and residual_nerf are ignored.")
        stated = replace(stated, run_nerf=False, residual_nerf=False)
    hull = stated.sampling is Sampling.HULL
    relevant = {
        "white_background": True,
        "sampling": True,
        "n_importance": hull or has_nerf,
        "nerf_n_importance": has_nerf,
        "alpha_mask_threshold": has_mask,
        "run_nerf": has_nerf,
        "residual_nerf": has_nerf,
    }
    for name, matters in relevant.items():
        if matters and getattr(stated, name) is None:
            default = getattr(LANDMARK_DEFAULTS, name)
            shown = default.value if isinstance(default, Sampling) else str(default).lower()
            notices.append(f"model.{name} is stated nowhere, so LandMark's default {shown} is assumed.")
    complete = stated.over(LANDMARK_DEFAULTS).over(ModelSettings(near_far=header.near_far))
    _check_sample_counts(complete, path)
    return complete, notices


def _check_sample_counts(settings: ModelSettings, path: Path) -> None:
    for name in ("n_importance", "nerf_n_importance"):
        count = getattr(settings, name)
        if not 1 <= count <= MAX_HULL_SAMPLES:
            raise InputError(
                f"{path}: model.{name} must be from 1 to {MAX_HULL_SAMPLES} samples, got {show(count)}"
            )


def _leftovers(state: StateDict) -> list[str]:
    unused = state.unused()
    if not unused:
        return []
    shown = ", ".join(show(key) for key in unused[:6]) + (", ..." if len(unused) > 6 else "")
    return [f"{Path(state.file).name} holds tensors that this program does not know and leaves out: {shown}."]


def _grid_notice(source: _Source, base: LandmarkFile) -> list[str]:
    if source.kind in (Kind.BRANCH_SUB, Kind.PLANE_SUB) or fits_grid(source.pieces, base.header):
        return []
    return [
        f"{base.path.name} states gridSize {list(base.header.grid_size)}, not the size of its planes;"
        " the sample step follows gridSize, as in LandMark."
    ]
