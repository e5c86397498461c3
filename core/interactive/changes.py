"""What of a keyframe stays as it is when a scene is edited, or when blocks of it come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from xxhash import xxh3_128_digest

from ...cuda.edit_claims import SLACK, bounds
from ...cuda.edit_tables import EditKind, EditOp, Footprint
from ...cuda.tables import View
from ...cuda.warp_tables import BORDER, Keyframe, Trust
from ..edits.compiled import CompiledEdits
from ..edits.layers import ReplaceBlock
from ..gridnerf import GridNeRF

Corner = tuple[float, float, float]
Box = tuple[Corner, Corner]  # lower and upper corner, scene units
Window = tuple[slice, slice]  # rows and columns

OPAQUE = 1 - 1 / 255  # share of the light that a front layer must take for what lies behind it not to count
FILLED = 0.7  # share of a piece of a footprint from which on it is not cut further
CUTS = 4  # so often at most: 16 pieces
MOST = 128  # boxes
NEAREST = 1e-3  # scene units; what is nearer to the camera has no place in the picture


def changed_boxes(before: CompiledEdits | None, after: CompiledEdits | None) -> tuple[Box, ...] | None:
    """Returns boxes that hold every place where two edits of one scene may differ in geometry or colour.

    Operations are compared by what they say, not by the layers that they were made from: one that is in both
    stacks changes nothing, and one that is elsewhere in the order only what it claims itself.

    Returns:
        The boxes, none where the scenes are the same; or None where anything may differ, or too much to tell
        it apart.
    """
    known = after or before
    if known is None or before is after:
        return ()
    blocks = _changed_blocks(before, after)
    changed = _changed_ops(before, after)
    if blocks is None or any(op.footprint is None or not op.inside for op in changed):
        return None
    boxes = [_block_box(known.model, block) for block in blocks]
    if boxes:  # copies show these blocks elsewhere
        changed += [op for edits in (before, after) for op in _ops(edits) if _reads_scene(op)]
    if len(boxes) + len(changed) > MOST:
        return None
    cuts = min(int(math.log2(MOST / max(len(changed), 1))), CUTS)
    boxes += [box for op in changed for box in _boxes_of(op, cuts)]
    (x0, y0, z0), (x1, y1, z1) = known.model.aabb.tolist()
    inside = [_common(box, ((x0, y0, z0), (x1, y1, z1))) for box in boxes]
    return tuple(dict.fromkeys(box for box in inside if box is not None))


def trust_of(keyframe: Keyframe, boxes: Sequence[Box], margin: float) -> NDArray[np.uint8]:
    """Returns which pixels of a keyframe are still good when anything may have changed in some boxes.

    VOID is a pixel whose ray meets a box before it ends: in or before its front surface where that is opaque,
    anywhere where it is not.

    Args:
        keyframe: Made before the change.
        boxes: See `changed_boxes`.
        margin: How far behind its mean depth the front layer may reach, scene units.

    Returns:
        Values of Trust. uint8 [height, width]
    """
    view = keyframe.view
    trust = np.full((view.height, view.width), Trust.GOOD, dtype=np.uint8)
    depth = keyframe.color[BORDER:-BORDER, BORDER:-BORDER, 3]
    planes = keyframe.planes[BORDER:-BORDER, BORDER:-BORDER]
    is_opaque = planes[..., 0] * planes[..., 3] > OPAQUE
    for low, high in boxes:
        window = _window(view, low, high)
        if window is None:
            continue
        enters = _entry(view, window, low, high)
        ends = np.where(is_opaque[window], depth[window] + np.float32(margin), np.float32(np.inf))
        trust[window][enters <= ends] = Trust.VOID
    return trust


def blocks_trust(keyframe: Keyframe) -> NDArray[np.uint8]:
    """Returns which pixels of a keyframe are stale when blocks have come that it lacked.

    Returns:
        Values of Trust. uint8 [height, width]
    """
    return np.where(keyframe.lacking, np.uint8(Trust.STALE), np.uint8(Trust.GOOD))


# Blocks


def _changed_blocks(before: CompiledEdits | None, after: CompiledEdits | None) -> set[int] | None:
    """Returns the blocks whose planes or mask may differ; None: all."""
    if before is not None and after is not None and before.model is after.model:
        return set()
    old, new = _replaced(before), _replaced(after)
    is_streamed = any(edits is not None and edits.variants for edits in (before, after))
    if is_streamed:
        versions = [
            {each.block: each.identity for each in edits.variants} if edits else {}
            for edits in (before, after)
        ]
        return {block for block in old | new if versions[0].get(block) != versions[1].get(block)}
    if any(layer.mask is not None for layers in (old, new) for layer in layers.values()):
        return None
    return set(old | new)


def _replaced(edits: CompiledEdits | None) -> dict[int, ReplaceBlock]:
    layers = edits.layers if edits else ()
    return {layer.block: layer for layer in layers if isinstance(layer, ReplaceBlock) and layer.enabled}


def _block_box(model: GridNeRF, block: int) -> Box:
    """Returns a block's box, with some slack against rounding."""
    (x0, y0, z0), (x1, y1, z1) = model.aabb.tolist()
    n_x, n_y = model.layout.division
    i, j = divmod(block, n_y)
    width, height = (x1 - x0) / n_x, (y1 - y0) / n_y
    low = x0 + (i - SLACK) * width, y0 + (j - SLACK) * height, z0
    return low, (x0 + (i + 1 + SLACK) * width, y0 + (j + 1 + SLACK) * height, z1)


# Operations


def _ops(edits: CompiledEdits | None) -> tuple[EditOp, ...]:
    return edits.edits.ops if edits and edits.edits else ()


def _reads_scene(op: EditOp) -> bool:
    return op.kind is EditKind.INSTANCE and op.source == 0


def _changed_ops(before: CompiledEdits | None, after: CompiledEdits | None) -> list[EditOp]:
    """Returns the operations of either stack that do not stand in the same order in both."""
    old, new = _ops(before), _ops(after)
    shared = {id(op) for op in old} & {id(op) for op in new}
    names = _named(before, shared), _named(after, shared)
    stays = [np.zeros(len(each), dtype=np.bool_) for each in names]
    for run in SequenceMatcher(None, *names, autojunk=False).get_matching_blocks():
        stays[0][run.a : run.a + run.size] = True
        stays[1][run.b : run.b + run.size] = True
    return [op for op, stay in zip((*old, *new), np.concatenate(stays), strict=True) if not stay]


def _named(edits: CompiledEdits | None, shared: set[int]) -> list[tuple[object, ...]]:
    """Returns something for each operation of a stack that is equal for equal ones."""
    sources: list[tuple[object, ...]] = [()]
    if edits is not None and edits.edits is not None:
        for (path, _), source in zip(edits.unit_ratios, edits.edits.sources, strict=True):
            sources.append((path, source.mask_threshold, _content(source.latent)))
    return [(sources[op.source], (id(op),) if id(op) in shared else _content(op)) for op in _ops(edits)]


def _content(value: object) -> tuple[object, ...]:
    """Returns what an operation, or a part of one, says; its number of the source left out."""
    if isinstance(value, Tensor):
        return value.shape, xxh3_128_digest(np.ascontiguousarray(value.numpy()).data)
    if isinstance(value, EditOp | Footprint):
        parts = (getattr(value, each.name) for each in fields(value) if each.name != "source")
        return tuple(_content(part) for part in parts)
    return (value,)


def _boxes_of(op: EditOp, cuts: int) -> list[Box]:
    """Returns boxes around all that an operation can claim: of its footprint, piece by piece."""
    footprint = op.footprint
    assert footprint is not None
    side, (low_x, low_y) = footprint.side, footprint.low
    boxes = []
    for rows, columns in _pieces(footprint.mask.numpy() > 0, cuts):
        low = low_x + side * columns.start, low_y + side * rows.start
        piece = replace(op, footprint=Footprint(footprint.mask[rows, columns], low, side))
        (x0, y0, z0), (x1, y1, z1) = (corner.tolist() for corner in bounds(piece))
        boxes.append(((x0, y0, z0), (x1, y1, z1)))
    return boxes


def _pieces(mask: NDArray[np.bool_], cuts: int) -> list[Window]:
    """Returns rectangles around the marked cells of a raster, cut where most of one would be empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    inner = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    n_y, n_x = inner.shape
    if not cuts or inner.mean() > FILLED:
        return [(slice(top, top + n_y), slice(left, left + n_x))]
    halves = [(inner[: n_y // 2], 0, 0), (inner[n_y // 2 :], n_y // 2, 0)]
    if n_x > n_y:
        halves = [(inner[:, : n_x // 2], 0, 0), (inner[:, n_x // 2 :], 0, n_x // 2)]
    return [
        (slice(r.start + top + y, r.stop + top + y), slice(c.start + left + x, c.stop + left + x))
        for half, y, x in halves
        for r, c in _pieces(half, cuts - 1)
    ]


def _common(a: Box, b: Box) -> Box | None:
    """Returns what lies in both boxes, if anything does."""
    (x0, y0, z0), (x1, y1, z1) = (
        tuple(map(pick, first, second)) for pick, first, second in ((max, a[0], b[0]), (min, a[1], b[1]))
    )
    return ((x0, y0, z0), (x1, y1, z1)) if x0 < x1 and y0 < y1 and z0 < z1 else None


# Rays


def _window(view: View, low: Corner, high: Corner) -> Window | None:
    """Returns the part of a picture in which a box may be seen, or None if it is nowhere."""
    corners = np.array(
        [[pair[bit >> axis & 1] for axis, pair in enumerate(zip(low, high, strict=True))] for bit in range(8)]
    )
    c2w = view.c2w.astype(np.float64)
    local = (corners - c2w[:, 3]) @ c2w[:, :3]
    z = -local[:, 2]
    if z.max() <= NEAREST:
        return None
    if z.min() <= NEAREST:
        return slice(0, view.height), slice(0, view.width)
    u = view.cx + view.fl_x * local[:, 0] / z
    v = view.cy - view.fl_y * local[:, 1] / z
    rows, columns = (
        slice(max(math.floor(at.min()) - 1, 0), min(math.ceil(at.max()) + 2, n))
        for at, n in ((v, view.height), (u, view.width))
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    return rows, columns


def _entry(view: View, window: Window, low: Corner, high: Corner) -> NDArray[np.float32]:
    """Returns the z-depth at which the rays of some pixels enter a box; NaN where they miss it."""
    rows, columns = window
    x = ((np.arange(columns.start, columns.stop) - view.cx) / view.fl_x).astype(np.float32)
    y = (-(np.arange(rows.start, rows.stop) - view.cy) / view.fl_y).astype(np.float32)[:, None]
    first = np.full((y.shape[0], len(x)), NEAREST, dtype=np.float32)
    last = np.full_like(first, np.inf)
    for axis in range(3):
        right, up, back, origin = view.c2w[axis]
        d = x * right + (y * up - back)
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (low[axis] - origin) / d, (high[axis] - origin) / d
        np.fmax(first, np.fmin(a, b), out=first)
        np.fmin(last, np.fmax(a, b), out=last)
    first[first > last] = np.nan
    return first
