"""What arguments of the kernels must be: every check raises ValueError with one sentence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tables import CHANNEL_MULTIPLE, DecoderWeights
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
