"""The door to the kernels: checks arguments, then renders or probes with the best code that there is."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import native, reference, train_native, train_torch
from .bricks import brick_tables
from .checks import (
    check_buffers,
    check_edits,
    check_feedback,
    check_grid,
    check_latent,
    check_rays,
    check_train_step,
    require_tensor,
)
from .columns import survey
from .edit_tables import ColumnGrid, Columns
from .loading import Loader
from .stream_checks import check_tables
from .tables import (
    TILE,
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RayList,
    RenderControl,
    RenderOptions,
    View,
)
from .tight import TightRoom, check_tight, make_room
from .train_tables import PlaneUpdate, RayBatch, StepResult, TrainOptions, TrainTables
from .warp import Warp

BACKENDS = ("auto", "native", "torch")


@dataclass(frozen=True)
class BackendStatus:
    """Which code renders, and on what or why."""

    name: str  # "native" or "torch"
    detail: str


@dataclass(frozen=True)
class Probe:
    """The field at single points."""

    density_feature: Tensor  # what the activation turns into density [n]
    sigma: Tensor  # density, 1 / scene unit; the mask is not asked [n]
    appearance_feature: Tensor  # the decoder's input [n, feature_dim]


def render(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    buffers: FrameBuffers,
    control: RenderControl | None = None,
    backend: str = "auto",
) -> bool:
    """Renders a view tile by tile into `buffers`.

    Args:
        tables: The field.
        view: Where from.
        options: How.
        buffers: Output; tiles that `control.order` leaves out keep what they hold.
        control: Tile order, cancelling and progress.
        backend: "native", "torch", or "auto" for the native code where it can be had.

    Returns:
        False if it was cancelled; then only the tiles marked done are valid.

    Raises:
        ValueError: An argument does not fit the others.
        RuntimeError: The native code was demanded and is not there.
    """
    check_tables(tables)
    _check_view(view)
    check_buffers(buffers, (view.height, view.width))
    _check_options(tables, options)
    control = control or RenderControl(view.width, view.height)
    size = f"{view.width} x {view.height} pixels"
    _check_control(control, -(-view.width // TILE), -(-view.height // TILE), f"tiles for {size}")
    check_feedback("needs", control.needs, np.float32, len(tables.blocks))
    check_feedback("lacking", control.lacking, np.uint8, len(tables.blocks))
    library = _library_for(tables.device, backend)
    if library is not None and library.can_render(tables, options):
        return library.render(tables, view, options, buffers, control)
    if backend == "native":
        raise RuntimeError("the native kernels have no NeRF branch in edited scenes")
    return reference.render(tables, view, options, buffers, control)


def can_render_rays(tables: FieldTables, options: RenderOptions) -> bool:
    """Whether `render_rays` serves: the native code is there, and does what the options ask for."""
    library = _library_for(tables.device, "auto")
    return library is not None and library.can_render(tables, options)


def render_rays(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    rays: RayList,
    buffers: FrameBuffers,
    control: RenderControl | None = None,
) -> bool:
    """Renders single pixels of a view, pack by pack, with the native code.

    Args:
        tables: The field.
        view: Where from.
        options: How.
        rays: Which pixels.
        buffers: Output in the order of the list, as `rays.buffers()` makes them.
        control: Order of the packs, cancelling and progress, as `rays.control()` makes it.

    Returns:
        False if it was cancelled; then only the packs marked done are valid.

    Raises:
        ValueError: An argument does not fit the others.
        RuntimeError: The native code cannot be had for this.
    """
    check_tables(tables)
    _check_view(view)
    check_rays(rays, view)
    check_buffers(buffers, (1, len(rays.pixels)))
    _check_options(tables, options)
    control = control or rays.control()
    _check_control(control, -(-len(rays.pixels) // TILE**2), 1, f"packs for {len(rays.pixels)} rays")
    check_feedback("needs", control.needs, np.float32, len(tables.blocks))
    check_feedback("lacking", control.lacking, np.uint8, len(tables.blocks))
    library = _library_for(tables.device, "native")
    if library is None or not library.can_render(tables, options):
        raise RuntimeError("single rays need the native kernels, which have no NeRF branch in edited scenes")
    return library.render(tables, view, options, buffers, control, rays)


def prepare(tables: FieldTables) -> None:
    """Does what the first render of tables would do beforehand; fetch threads may call it.

    Raises:
        ValueError: The tables are not as FieldTables promises.
    """
    check_tables(tables)
    library = _library_for(tables.device, "auto")
    if library is not None:
        library.prepare(tables)


def tight_room(
    tables: FieldTables, options: RenderOptions, cancel: NDArray[np.int32] | None = None
) -> TightRoom | None:
    """Finds out where a field holds anything that a sample would show, for `RenderOptions.tight`.

    That takes about a second of processor time; any thread may do it. Where the field has a mask its cells
    are asked, else those of a grid over its box. Edits are none of its business: it serves with all of them.

    Args:
        tables: The field.
        options: How its samples lie and count, and with how many threads to look.
        cancel: Becomes not 0 to give up. int32 [1]

    Returns:
        None if it was cancelled or does not pay: for streamed fields, for ones that are too large, and
        without the native code.

    Raises:
        ValueError: An argument does not fit the others.
    """
    check_tables(tables)
    _check_options(tables, options)
    check_feedback("cancel", cancel, np.int32, 1)
    library = _library_for(tables.device, "auto", "probe")
    if library is None or tables.stream is not None:
        return None
    return make_room(library, tables, options, np.zeros(1, np.int32) if cancel is None else cancel)


def mask_bricks(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the brick tables any_cell and all_cell of mask vertices, as stream_tables.BlockMask has them.

    Args:
        nodes: 0 or 1, on the CPU. uint8 [n_z, n_y, n_x]

    Returns:
        Two tables, int64 [n_z // 4 + 1, n_y // 4 + 1, n_x // 4 + 1].
    """
    require_tensor("nodes", nodes, torch.uint8, (None, None, None))
    library = _library_for(nodes.device, "auto")
    return brick_tables(nodes) if library is None else library.mask_bricks(nodes)


def probe(
    tables: FieldTables, points: Tensor, backend: str = "auto", lacking: np.ndarray | None = None
) -> Probe:
    """Returns what the field holds at points in scene units.

    Args:
        tables: The field.
        points: [n, 3] float32
        backend: "native", "torch", or "auto" for the native code where it can be had.
        lacking: Becomes 1 for blocks that were read but are not resident; uint8 [n_blocks], or None.
    """
    check_tables(tables)
    check_feedback("lacking", lacking, np.uint8, len(tables.blocks))
    require_tensor("points", points, torch.float32, (None, 3))
    library = _library_for(tables.device, backend, "probe")
    if library is not None:
        return Probe(*library.query(tables, points, lacking))
    return Probe(*reference.query(tables, points, lacking))


def decode(
    tables: FieldTables,
    features: Tensor,
    directions: Tensor,
    latent: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Returns the colours of appearance features seen along directions.

    Args:
        tables: The field.
        features: Appearance features, as `probe` returns them. [n, feature_dim]
        directions: Ray directions, not normalised. [n, 3]
        latent: Appearance embedding, for models that have a table [latent_dim]; or several at once, which is
            faster than one after the other. [n_looks, latent_dim]
        backend: "native", "torch", or "auto" for the native code where it can be had.

    Returns:
        Colours in [0, 1]. [n, 3], of several embeddings [n_looks, n, 3]
    """
    check_tables(tables)
    require_tensor("features", features, torch.float32, (None, tables.decoder.basis.shape[0]))
    require_tensor("directions", directions, torch.float32, (len(features), 3))
    several = latent is not None and latent.dim() == 2
    looks = list(latent) if latent is not None and several else [latent]
    for look in looks:
        check_latent("latent", tables.decoder, look)
    library = _library_for(tables.device, backend, "probe")
    if library is not None:
        colors = library.decode(tables, features, directions, looks)
    else:
        colors = torch.stack([reference.decode(tables, features, directions, look) for look in looks])
    return colors if several else colors[0]


def columns(
    tables: FieldTables,
    options: RenderOptions,
    grid: ColumnGrid,
    backend: str = "auto",
    lacking: np.ndarray | None = None,
) -> Columns:
    """Looks at the field from straight above.

    A column is sampled at z_high - (i + 0.5) * step down to z_low. A sample counts inside the box and where
    the alpha mask passes; its opacity is 1 - exp(-sigma * step * distance_scale), composited front to back.
    The height is interpolated linearly in opacity inside its step. Edits and the NeRF branch are not asked.

    Args:
        tables: The field.
        options: Mask threshold, distance scale and threads are read.
        grid: Where the columns stand.
        backend: "native", "torch", or "auto" for the native code where it can be had.
        lacking: Becomes 1 for blocks that were read but are not resident; uint8 [n_blocks], or None.

    Raises:
        ValueError: An argument is out of range.
        RuntimeError: The native code was demanded and is not there.
    """
    check_tables(tables)
    check_grid(grid)
    check_feedback("lacking", lacking, np.uint8, len(tables.blocks))
    library = _library_for(tables.device, backend, "probe")
    if library is not None:
        return library.columns(tables, options, grid, lacking)
    return survey(tables, options, grid, lacking)


def train_step(
    tables: TrainTables,
    batch: RayBatch,
    options: TrainOptions,
    update: PlaneUpdate | None = None,
    backend: str = "auto",
) -> StepResult:
    """Renders a batch of rays, finds the gradients of its losses and updates the planes.

    The native code serves tables on the CPU without NeRF branch and extra loss; its results do not depend on
    the number of threads.

    Args:
        tables: The field; its planes and their moments change in place if `update` is given.
        batch: Rays, colours and random numbers, on the tables' device.
        options: How to render and which losses to add.
        update: Regularisation and Adam of the planes; None returns their gradients instead.
        backend: "native", "torch", or "auto" for the native code where it can be had.

    Returns:
        Predictions, losses, counts, and the gradients of the data losses.

    Raises:
        ValueError: An argument does not fit the others.
        RuntimeError: The native code was demanded and is not there.
    """
    check_train_step(tables, batch, options, update)
    library = _library_for(tables.density_planes[0].device, backend)
    if library is not None and tables.nerf is None and options.extra_loss is None:
        trainer = _native_training.get()
        if not isinstance(trainer, str):
            return train_native.train_step(library, trainer, tables, batch, options, update)
        if backend == "native":
            raise RuntimeError(f"the native training step was asked for, but {trainer}")
    elif backend == "native":
        raise RuntimeError("the native training step has no NeRF branch and no extra loss")
    return train_torch.train_step(tables, batch, options, update)


def open_warp(width: int, height: int, threads: int = 0) -> Warp:
    """Returns what shows keyframes from elsewhere, in pictures of one size.

    Args:
        width: Of the pictures, pixels.
        height: Of the pictures, pixels.
        threads: 0: all cores that this process may use.

    Raises:
        ValueError: A picture without pixels.
        RuntimeError: The native code is not there.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture must be at least 1 x 1 pixels, got {width} x {height}")
    library = _native.get()
    if isinstance(library, str):
        raise RuntimeError(f"warping needs the native kernels, but {library}")
    return Warp(library, width, height, threads or len(os.sched_getaffinity(0)))


def backend_status(device: torch.device | str = "cpu") -> BackendStatus:
    """Returns which code renders tables on `device`; builds the native kernels if that was not tried yet."""
    device = torch.device(device)
    if device.type != "cpu":
        return BackendStatus("torch", f"torch on {device}")
    library = _native.get()
    if isinstance(library, str):
        return BackendStatus("torch", library)
    n_threads = len(os.sched_getaffinity(0))
    return BackendStatus("native", f"{library.level}, {n_threads} thread{'s' if n_threads > 1 else ''}")


def has_bfloat16() -> bool:
    """Whether `RenderOptions.bfloat16` makes a difference here: processor and compiler know bfloat16."""
    library = _native.get()
    return not isinstance(library, str) and library.has_bfloat16


_native = Loader("host", native.Library, "rendering")
_native_training = Loader("train", train_native.TrainLibrary, "training")


def _library_for(device: torch.device, backend: str, part: str | None = None) -> native.Library | None:
    """Returns the library, None for torch. part: what else of native.PARTS must be there."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend}")
    if backend == "torch":
        return None
    if device.type != "cpu":
        if backend == "native":
            raise RuntimeError(f"the native kernels need tables on the CPU, got tables on {device}")
        return None
    library = _native.get()
    if isinstance(library, str):
        if backend == "native":
            raise RuntimeError(f"the native kernels were asked for, but {library}")
        return None
    if part is not None and backend == "auto" and not library.has(part):
        return None
    return library


def _check_view(view: View) -> None:
    if view.c2w.shape != (3, 4):
        raise ValueError(f"c2w must be float32 [3, 4], got {list(view.c2w.shape)}")
    if view.width < 1 or view.height < 1:
        raise ValueError(f"a view must be at least 1 x 1 pixels, got {view.width} x {view.height}")


def _check_options(tables: FieldTables, options: RenderOptions) -> None:
    if options.sampling not in ("box", "hull"):
        raise ValueError(f"sampling must be box or hull, got {options.sampling}")
    n = options.n_importance if options.sampling == "hull" else options.n_samples
    if n < 1:
        raise ValueError(f"a ray must have at least one sample, got {n}")
    if options.nerf is not NerfMode.OFF and tables.nerf is not None and n < 3:
        raise ValueError(f"the NeRF branch needs at least three samples per ray, got {n}")
    if options.bfloat16 and options.quality is Quality.EXACT:
        raise ValueError("bfloat16 must be off in exact pictures, which keep every bit, got on")
    if options.sampling == "box" and not options.step > 0:
        raise ValueError(f"step must be positive, got {options.step}")
    if options.threads < 0:
        raise ValueError(f"threads must not be negative, got {options.threads}")
    if options.cluster_weight is not None and not options.cluster_weight > 0:
        raise ValueError(f"cluster_weight must be positive, got {options.cluster_weight}")
    check_latent("latent", tables.decoder, options.latent)
    if options.tight is not None:
        check_tight(tables, options, options.tight)
    if options.fade is not None:
        require_tensor("fade", options.fade, torch.float32, (len(tables.blocks),))
    if options.edits is not None:
        check_edits(tables, options.edits)
        for source in options.edits.sources:
            check_tables(source.tables)


def _check_control(control: RenderControl, columns: int, rows: int, what: str) -> None:
    if (control.columns, control.rows) != (columns, rows):
        raise ValueError(
            f"control must have {columns} x {rows} {what}, got {control.columns} x {control.rows}"
        )
    order = control.order
    if len(order) and not (int(order.min()) >= 0 and int(order.max()) < columns * rows):
        raise ValueError(f"order must hold tile numbers below {columns * rows}, got others")
