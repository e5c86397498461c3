"""What arguments of the kernels must be: every check raises ValueError with one sentence."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .edit_tables import ColumnGrid, EditIndex, EditKind, EditOp, EditTables, Reach
from .tables import CHANNEL_MULTIPLE, DecoderWeights, FieldTables, FrameBuffers, RayList, View
from .train_tables import PlaneUpdate, RayBatch, TrainOptions, TrainTables

MAX_TEXELS = 2**31 - 1  # per plane; the kernels count them in 32 bits


def require_tensor(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
    device: torch.device | None = None,
) -> None:
    """Checks type, shape (None: any length), place and layout of a tensor; device: the CPU if not given."""
    device = device or torch.device("cpu")
    fits = tensor.dim() == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=False)
    )
    if not fits or tensor.dtype != dtype or tensor.device != device or not tensor.is_contiguous():
        wanted = ", ".join("n" if side is None else str(side) for side in shape)
        layout = "" if tensor.is_contiguous() else ", not contiguous"
        raise ValueError(
            f"{name} must be contiguous {_short(dtype)} [{wanted}] on {device}, "
            f"got {_short(tensor.dtype)} {list(tensor.shape)} on {tensor.device}{layout}"
        )


def check_decoder(decoder: DecoderWeights, n_products: int) -> None:
    """Checks that the layers fit each other and the n_products that go into the basis."""
    if decoder.basis.dim() != 2 or decoder.basis.shape[1] != n_products:
        raise ValueError(f"decoder.basis must have {n_products} columns, got {list(decoder.basis.shape)}")
    n_inputs = decoder.basis.shape[0] * (1 + 2 * max(decoder.feature_pe, 0)) + decoder.latent_dim
    if decoder.view_pe > -1:
        n_inputs += 3 + 6 * decoder.view_pe
    for number, (weight, bias) in enumerate(decoder.layers):
        n_outputs = 3 if number == len(decoder.layers) - 1 else weight.shape[0]
        if tuple(weight.shape) != (n_outputs, n_inputs):
            raise ValueError(
                f"decoder layer {number} must be [{n_outputs}, {n_inputs}], got {list(weight.shape)}"
            )
        if bias is not None and tuple(bias.shape) != (n_outputs,):
            raise ValueError(f"decoder bias {number} must be [{n_outputs}], got {list(bias.shape)}")
        n_inputs = n_outputs
    if len(decoder.layers) != 3:
        raise ValueError(f"the decoder must have 3 layers, got {len(decoder.layers)}")


def check_grid(grid: ColumnGrid) -> None:
    """Checks that columns have samples and a finite place."""
    if not 0 < grid.n_x * grid.n_y <= MAX_TEXELS or min(grid.n_x, grid.n_y) < 1:
        raise ValueError(f"a grid must have 1 to {MAX_TEXELS} columns, got {grid.n_x} x {grid.n_y}")
    if not all(map(math.isfinite, (*grid.low, grid.side, grid.z_low, grid.z_high, grid.step))):
        raise ValueError(f"a grid must be finite, got {grid}")
    if not (grid.side > 0 and grid.step > 0 and grid.z_high > grid.z_low):
        raise ValueError(f"side and step must be positive and z_high above z_low, got {grid}")


def check_latent(name: str, decoder: DecoderWeights, latent: Tensor | None) -> None:
    """Checks that an embedding is there exactly as the decoder needs it."""
    if latent is None:
        if decoder.latent_dim:
            raise ValueError(f"{name} must be float32 [{decoder.latent_dim}], got None")
    elif decoder.latent_dim:
        require_tensor(name, latent, torch.float32, (decoder.latent_dim,))


def check_feedback(name: str, array: np.ndarray | None, dtype: type[np.generic], n_blocks: int) -> None:
    """Checks an array that the kernels write one number per block to."""
    if array is None:
        return
    _check_array(name, array, dtype, (n_blocks,), n_blocks)


def check_rays(rays: RayList, view: View) -> None:
    """Checks that every ray is one of the view's."""
    pixels, start, last = rays.pixels, rays.start, view.width * view.height - 1
    _check_array("pixels", pixels, np.int32, pixels.shape[:1], "n")
    if len(pixels) and not 0 <= int(pixels.min()) <= int(pixels.max()) <= last:
        raise ValueError(f"pixels must hold numbers from 0 to {last}, got {pixels.min()} to {pixels.max()}")
    if start is not None:
        _check_array("start", start, np.float32, pixels.shape, len(pixels))


def check_buffers(buffers: FrameBuffers, size: tuple[int, int]) -> None:
    """Checks that the outputs have room for a picture of a size (height, width)."""
    require_tensor("rgb", buffers.rgb, torch.float32, (*size, 3))
    require_tensor("opacity", buffers.opacity, torch.float32, size)
    require_tensor("depth", buffers.depth, torch.float32, size)
    require_tensor("median_depth", buffers.median_depth, torch.float32, size)
    if buffers.normals is not None:
        require_tensor("normals", buffers.normals, torch.float32, (*size, 3))
    if buffers.front is not None:
        require_tensor("front", buffers.front, torch.float32, (*size, 2))


def _check_array(
    name: str, array: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...], wanted: str | int
) -> None:
    if array.dtype == dtype and array.shape == shape and array.flags.c_contiguous:
        return
    got = f"{array.dtype} {list(array.shape)}" + ("" if array.flags.c_contiguous else ", not contiguous")
    raise ValueError(f"{name} must be contiguous {np.dtype(dtype)} [{wanted}], got {got}")


def check_edits(tables: FieldTables, edits: EditTables) -> None:
    """Checks edits of a field but for the tables of their sources; the verdict is kept in their cache.

    It holds for all snapshots of a streamed field.
    """
    known = edits.cache.get("checked")
    if isinstance(known, tuple) and known[0] is tables.decoder and known[1] == tables.device:
        return
    for number, source in enumerate(edits.sources):
        if source.tables.device != tables.device:
            raise ValueError(f"source {number} must lie on {tables.device}, got {source.tables.device}")
        check_latent(f"latent of source {number}", source.tables.decoder, source.latent)
    for number, op in enumerate(edits.ops):
        _check_op(f"operation {number}", op, tables.decoder, len(edits.sources))
    _check_index(edits.index, len(edits.ops))
    _check_reach(edits.reach)
    edits.cache["checked"] = (tables.decoder, tables.device)


def _check_op(name: str, op: EditOp, decoder: DecoderWeights, n_sources: int) -> None:
    size: tuple[int, ...] = (0, 0)
    if op.footprint is not None:
        require_tensor(f"footprint of {name}", op.footprint.mask, torch.uint8, (None, None))
        size = tuple(op.footprint.mask.shape)
        if min(size) < 1 or not op.footprint.side > 0:
            raise ValueError(f"the footprint of {name} must have cells with a side, got {list(size)}")
    if op.kind is EditKind.STYLE:
        if op.latent is None or not decoder.latent_dim:
            raise ValueError(f"{name} must have a latent, and the field an appearance embedding")
        check_latent(f"latent of {name}", decoder, op.latent)
    elif op.kind is EditKind.INSTANCE:
        t = op.to_source
        if not 0 <= op.source <= n_sources:
            raise ValueError(f"the source of {name} must be 0 to {n_sources}, got {op.source}")
        numbers = (t.xx, t.xy, t.x0, t.y0, t.zz, t.z0, t.cosine, t.sine, op.sigma_scale)
        if not all(map(math.isfinite, numbers)) or not (t.zz > 0 and t.xx**2 + t.xy**2 > 0):
            raise ValueError(f"the transform of {name} must be finite and scale by more than 0, got {t}")
    elif op.kind is EditKind.PATCH:
        if op.footprint is None or op.ground is None or op.features is None:
            raise ValueError(f"{name} must have footprint, ground and features to be a patch")
        require_tensor(f"ground of {name}", op.ground, torch.float32, size)
        width = len(decoder.basis)
        require_tensor(f"features of {name}", op.features, torch.float32, (*size, width))
        if not min(op.thickness, op.rise, op.sigma) >= 0:
            raise ValueError(
                f"thickness, rise and sigma of {name} must not be negative, "
                f"got {op.thickness}, {op.rise} and {op.sigma}"
            )


def _check_index(index: EditIndex, n_ops: int) -> None:
    require_tensor("index.cells", index.cells, torch.int32, (None, None))
    require_tensor("index.starts", index.starts, torch.int32, (None,))
    require_tensor("index.items", index.items, torch.int32, (None,))
    starts, items = index.starts.long(), index.items.long()
    lengths = starts[1:] - starts[:-1]
    if len(starts) < 2 or starts[0] != 0 or starts[1] != 0 or (lengths < 0).any() or starts[-1] != len(items):
        raise ValueError(f"index.starts must rise from 0, 0 to {len(items)}, got {starts.tolist()[:8]}")
    if len(items) and not 0 <= int(items.min()) <= int(items.max()) < n_ops:
        raise ValueError(f"index.items must name operations below {n_ops}, got others")
    list_of = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    if ((list_of[1:] == list_of[:-1]) & (items[1:] >= items[:-1])).any():
        raise ValueError("every list of index.items must name operations from the top down, got others")
    if not index.cells.numel() or not 0 <= int(index.cells.min()) <= int(index.cells.max()) < len(lengths):
        raise ValueError(f"index.cells must name lists below {len(lengths)}, got others or no cell")
    if not (all(map(math.isfinite, (*index.low, *index.scale))) and min(index.scale) > 0):
        raise ValueError(f"index.low must be finite and scale positive, got {index.low} and {index.scale}")


def _check_reach(reach: Reach) -> None:
    require_tensor("reach.cells", reach.cells, torch.uint8, (None, None, None))
    if not (all(map(math.isfinite, (*reach.low, *reach.side))) and min(reach.side) > 0):
        raise ValueError(f"reach.low must be finite and side positive, got {reach.low} and {reach.side}")


def check_train_step(
    tables: TrainTables, batch: RayBatch, options: TrainOptions, update: PlaneUpdate | None
) -> None:
    """Checks the arguments of a training step."""
    _check_parameters(tables)
    _check_planes(tables)
    _check_batch(tables, batch)
    _check_options(options)
    if update is not None:
        _check_update(tables, update)


def _check_parameters(tables: TrainTables) -> None:
    if tables.n_directions not in (1, 3):
        raise ValueError(f"n_directions must be 1 or 3, got {tables.n_directions}")
    if tables.n_levels < 1 or min(tables.division) < 1:
        raise ValueError(
            f"n_levels and division must be 1 or more, got {tables.n_levels} and {tables.division}"
        )
    if tables.activation not in ("softplus", "relu"):
        raise ValueError(f"activation must be softplus or relu, got {tables.activation}")
    require_tensor("aabb", tables.aabb, torch.float32, (2, 3))
    decoder = tables.decoder
    check_decoder(decoder, tables.n_levels * sum(tables.appearance_channels))
    if (tables.embedding is None) != (decoder.latent_dim == 0):
        raise ValueError(
            f"embedding must be given exactly if latent_dim is not 0, got latent_dim {decoder.latent_dim}"
        )
    device = tables.density_planes[0].device
    small = [("decoder.basis", decoder.basis)]
    for number, (weight, bias) in enumerate(decoder.layers):
        small.append((f"decoder layer {number}", weight))
        if bias is not None:
            small.append((f"decoder bias {number}", bias))
    for name, tensor in small:
        require_tensor(name, tensor, torch.float32, tuple(tensor.shape), device)
    if tables.embedding is not None:
        require_tensor("embedding", tables.embedding, torch.float32, (None, decoder.latent_dim), device)
    if tables.density_basis is not None:
        n_products = tables.n_levels * sum(tables.density_channels)
        require_tensor("density_basis", tables.density_basis, torch.float32, (n_products,), device)
    if tables.occupancy is not None:
        require_tensor(
            "occupancy.nodes",
            tables.occupancy.nodes,
            torch.uint8,
            (None, None, None),
            tables.occupancy.nodes.device,
        )


def _check_planes(tables: TrainTables) -> None:
    groups = (
        ("density", tables.density_planes, tables.density_lines, tables.density_channels),
        ("appearance", tables.appearance_planes, tables.appearance_lines, tables.appearance_channels),
    )
    device = tables.density_planes[0].device
    n_tables, n_blocks = tables.n_directions * tables.n_levels, tables.n_blocks
    for name, planes, lines, channels in groups:
        if len(planes) != n_tables or len(lines) != n_tables or len(channels) != tables.n_directions:
            raise ValueError(f"there must be {n_tables} {name} planes and lines, got {len(planes)}")
        for p, (plane, line) in enumerate(zip(planes, lines, strict=True)):
            padded = -(-channels[p // tables.n_levels] // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
            shape = (n_blocks, None, None, padded)
            require_tensor(f"{name} plane {p}", plane, torch.float32, shape, device)
            require_tensor(f"{name} line {p}", line, torch.float32, (n_blocks, None, padded), device)
            if not 0 < plane.shape[1] * plane.shape[2] <= MAX_TEXELS or not line.shape[1]:
                raise ValueError(
                    f"{name} plane {p} must have 1 to {MAX_TEXELS} texels, got {list(plane.shape[1:3])}"
                )


def _check_batch(tables: TrainTables, batch: RayBatch) -> None:
    n, device = len(batch.origins), tables.density_planes[0].device
    if not n:
        raise ValueError("a batch must have at least one ray, got none")
    for name in ("origins", "directions", "rgb"):
        require_tensor(name, getattr(batch, name), torch.float32, (n, 3), device)
    require_tensor("jitter", batch.jitter, torch.float32, (n,), device)
    if tables.embedding is None:
        return
    if batch.codes is None:
        raise ValueError("codes must name a row of embedding for every ray, got None")
    require_tensor("codes", batch.codes, torch.int32, (n,), device)
    lowest, highest = (int(code) for code in torch.aminmax(batch.codes))
    if lowest < 0 or highest >= len(tables.embedding):
        raise ValueError(
            f"codes must be rows of embedding, 0 to {len(tables.embedding) - 1}, got {lowest} to {highest}"
        )


def _check_options(options: TrainOptions) -> None:
    if options.n_samples < 1:
        raise ValueError(f"a ray must have at least one sample, got {options.n_samples}")
    if not options.step > 0:
        raise ValueError(f"step must be positive, got {options.step}")
    if not options.weight_threshold >= 0:
        raise ValueError(f"weight_threshold must not be negative, got {options.weight_threshold}")
    if options.threads < 0:
        raise ValueError(f"threads must not be negative, got {options.threads}")
    if not all(map(math.isfinite, (options.near, options.far, options.distance_scale))):
        raise ValueError("near, far and distance_scale must be finite")


def _check_update(tables: TrainTables, update: PlaneUpdate) -> None:
    if update.count < 1:
        raise ValueError(f"count must be 1 or more, got {update.count}")
    groups = (
        ("density", tables.density_planes, update.density_moments),
        ("appearance", tables.appearance_planes, update.appearance_moments),
    )
    for name, planes, moments in groups:
        if len(moments) != len(planes):
            raise ValueError(f"there must be moments of {len(planes)} {name} planes, got {len(moments)}")
        for p, (plane, pair) in enumerate(zip(planes, moments, strict=True)):
            for moment in pair:
                require_tensor(
                    f"moment of {name} plane {p}", moment, torch.float32, tuple(plane.shape), plane.device
                )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
