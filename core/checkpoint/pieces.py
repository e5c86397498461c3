"""Cuts the planes and lines of any file layout into blocks, as views of the mapped files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from ..gridnerf import FieldBlock, Parts
from .header import Header
from .values import show
from .weights import StateDict

GROUPS = ("density_plane", "density_line", "app_plane", "app_line")
_PLANE_KEY = re.compile(r"(?:density|app)_(?:plane|line)\.(?:0|[1-9]\d{0,5})")


@dataclass(frozen=True)
class Piece:
    """One plane [channels, n_v, n_u] or line [channels, n_w] of one block."""

    file: str
    parts: Parts

    @property
    def channels(self) -> int:
        """Channels of all parts together."""
        return sum(part.shape[0] for part in self.parts)

    @property
    def size(self) -> tuple[int, ...]:
        """Vertices along each axis."""
        return tuple(self.parts[0].shape[1:])


Pieces = dict[str, tuple[Piece, ...]]  # key of the state_dict -> one per block


def plane_keys(state: StateDict) -> list[str]:
    """Lists the keys of planes and lines."""
    return [key for key in state.tensors if _PLANE_KEY.fullmatch(key)]


def whole_pieces(states: Sequence[StateDict]) -> Pieces:
    """One file per block, each with 4-D planes."""
    keys = {key: None for state in states for key in plane_keys(state)}
    return {key: tuple(Piece(state.file, (_flat(state, key),)) for state in states) for key in keys}


def channel_pieces(states: Sequence[StateDict]) -> Pieces:
    """One block, whose channels are spread over several files."""
    pieces = whole_pieces(states)
    for key, parts in pieces.items():
        for part in parts:
            if part.size != parts[0].size:
                raise _disagrees(part.file, key, part.size, f"{parts[0].file} says", parts[0].size)
    return {
        key: (Piece(parts[0].file, tuple(tensor for part in parts for tensor in part.parts)),)
        for key, parts in pieces.items()
    }


def stacked_pieces(state: StateDict) -> Pieces:
    """One file with all blocks: planes (1, C, n, h, w), lines (1, C, L, n)."""
    pieces: Pieces = {}
    for key in plane_keys(state):
        is_plane = "_plane" in key
        tensor = _batch_of_one(state, key, 5 if is_plane else 4)
        blocks = tensor.unbind(1) if is_plane else tensor.unbind(2)
        pieces[key] = tuple(Piece(state.file, (block,)) for block in blocks)
    return pieces


def _flat(state: StateDict, key: str) -> Tensor:
    tensor = _batch_of_one(state, key, 4)
    if "_plane" in key:
        return tensor
    if tensor.shape[2] != 1:
        raise InputError(
            f"{state.file}: state_dict.{key} must have the shape (1, channels, length, 1), "
            f"got {show(tuple(state.tensors[key].shape))}"
        )
    return tensor[:, :, 0]


def _batch_of_one(state: StateDict, key: str, dim: int) -> Tensor:
    tensor = state.take(key)
    if tensor.dim() != dim or tensor.shape[0] != 1 or tensor.numel() == 0:
        raise InputError(
            f"{state.file}: state_dict.{key} must have {dim} dimensions, the first 1 and none empty, "
            f"got the shape {show(tuple(tensor.shape))}"
        )
    return tensor[0]


def _disagrees(
    file: str, key: str, got: tuple[int, ...], reason: str, wanted: tuple[int, ...], what: str = "vertices"
) -> InputError:
    sizes = " x ".join(map(str, wanted)), " x ".join(map(str, got))
    return InputError(f"{file}: state_dict.{key} must have {sizes[0]} {what} as {reason}, got {sizes[1]}")


def count_levels(pieces: Pieces, header: Header, file: str) -> int:
    """Returns the number of resolution levels, after checking that every group has all its members."""
    n_planes = max((int(key.rpartition(".")[2]) for key in pieces), default=-1) + 1
    n_directions = header.n_directions
    n_expected = max(-(-n_planes // n_directions), 1) * n_directions
    for group in GROUPS:
        for p in range(n_expected):
            if f"{group}.{p}" not in pieces:
                raise InputError(
                    f"{file}: state_dict.{group}.{p} is missing, so this is not a complete LandMark file "
                    f"of {n_directions} direction(s)"
                )
    return n_expected // n_directions


def make_blocks(pieces: Pieces, header: Header, file: str) -> tuple[tuple[FieldBlock, ...], int]:
    """Checks every plane and line against the others and returns blocks and number of levels."""
    n_levels = count_levels(pieces, header, file)
    n_blocks = len(pieces["density_plane.0"])
    for key, blocks in pieces.items():
        _check_piece(key, blocks, pieces, header, n_levels)
        if len(blocks) != n_blocks:
            raise _disagrees(file, key, (len(blocks),), "density_plane.0 says", (n_blocks,), "blocks")

    def group(name: str, block: int) -> tuple[Parts, ...]:
        return tuple(pieces[f"{name}.{p}"][block].parts for p in range(n_levels * header.n_directions))

    return tuple(
        FieldBlock(
            density_planes=group("density_plane", block),
            density_lines=group("density_line", block),
            appearance_planes=group("app_plane", block),
            appearance_lines=group("app_line", block),
        )
        for block in range(n_blocks)
    ), n_levels


def _check_piece(key: str, blocks: tuple[Piece, ...], pieces: Pieces, header: Header, n_levels: int) -> None:
    name, _, number = key.rpartition(".")
    is_density = name.startswith("density")
    stated = header.density_channels if is_density else header.appearance_channels
    channels = stated[int(number) // n_levels]
    reason = f"kwargs.{'density' if is_density else 'appearance'}_n_comp says"
    twin_key = key.replace("app_", "density_")
    twin = pieces[twin_key][0]
    for piece in blocks:
        if piece.channels != channels:
            raise _disagrees(piece.file, key, (piece.channels,), reason, (channels,), "channels")
        if piece.size != twin.size:
            raise _disagrees(piece.file, key, piece.size, f"{twin_key} says", twin.size)


def fits_grid(pieces: Pieces, header: Header) -> bool:
    """Whether the coarsest planes of one undivided block are gridSize or a multiple of it."""
    n_u, n_v, n_w = header.grid_size
    height, width = pieces["density_plane.0"][0].size
    (length,) = pieces["density_line.0"][0].size
    factor = length // n_w
    return (width, height, length) == (factor * n_u, factor * n_v, factor * n_w)


def fitting_divisions(
    pieces: Pieces, header: Header, n_blocks: int, tolerance: int = 0
) -> list[tuple[int, int]]:
    """Lists the divisions of gridSize into blocks of the size found.

    LandMark rounds half to even after an upsampling and divides integers before the first. `tolerance` is in
    vertices of the coarsest level.
    """
    divisions = [(a, n_blocks // a) for a in range(1, n_blocks + 1) if n_blocks % a == 0]
    levels = [number for number in range(len(pieces)) if f"density_plane.{number}" in pieces]
    return [
        division
        for division in divisions
        if all(_fits(pieces, header, p, division, tolerance) for p in levels)
    ]


def _fits(pieces: Pieces, header: Header, p: int, division: tuple[int, int], tolerance: int) -> bool:
    size = pieces[f"density_plane.{p}"][0].size
    (length,) = pieces[f"density_line.{p}"][0].size
    factor = length / header.grid_size[2]
    for n_vertices, n_parts, found in zip(header.grid_size, division, reversed(size), strict=False):
        exact = n_vertices * factor / n_parts
        possible = {round(exact), math.floor(exact), math.floor(n_vertices // n_parts * factor)}
        if found not in possible and abs(found - exact) > tolerance * max(factor, 1):
            return False
    return True
