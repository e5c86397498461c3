"""The native training step behind ctypes: describes parameters and batch, and reads gradients."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import abi, native, train_abi
from .field_native import PreparedField
from .tables import CHANNEL_MULTIPLE, BlockTables, FieldTables
from .train_tables import Gradients, PlaneUpdate, RayBatch, StepResult, TrainOptions, TrainTables

Planes = tuple[Tensor, ...]


class TrainLibrary:
    """The library of the training step; fields are prepared by the renderer's.

    Args:
        path: Where it lies.

    Raises:
        OSError: It cannot be loaded, or was built from other sources.
        AttributeError: It has no training step.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        pointer = ctypes.c_void_p
        library.lv_train_abi.argtypes, library.lv_train_abi.restype = [pointer], None
        library.lv_train_step.argtypes, library.lv_train_step.restype = [pointer] * 7, None
        sizes = (ctypes.c_int32 * len(train_abi.STRUCTS))()
        library.lv_train_abi(sizes)
        expected = [*map(ctypes.sizeof, train_abi.STRUCTS)]
        if [*sizes] != expected:
            raise OSError(f"{path} must have structs of {expected} bytes, got {[*sizes]}; delete it")
        self.train_step = library.lv_train_step


def train_step(
    library: native.Library,
    trainer: TrainLibrary,
    tables: TrainTables,
    batch: RayBatch,
    options: TrainOptions,
    update: PlaneUpdate | None,
) -> StepResult:
    """Runs one step with threads while the interpreter runs on; see `ops.train_step`."""
    with torch.no_grad():
        return _Step(library, trainer, tables, batch, options, update).run()


class TrainField(PreparedField):
    """The field of one step; the mask's brick tables are kept from step to step."""

    _latest: tuple[tuple[object, ...], abi.Mask, list[object]] | None = None

    def _fill_mask(self, nodes: Tensor, aabb: Tensor) -> None:
        key = (nodes.data_ptr(), nodes._version, nodes.shape, aabb.reshape(-1).tolist())
        latest = TrainField._latest
        if latest is None or latest[0] != key:
            super()._fill_mask(nodes, aabb)
            latest = (key, abi.Mask.from_buffer_copy(self.field.mask), [nodes, *self.held])
            TrainField._latest = latest
        self.held.append(latest)
        self.field.mask = latest[1]


class _Step:
    """The structs of one step, with everything that they point to."""

    def __init__(
        self,
        library: native.Library,
        trainer: TrainLibrary,
        tables: TrainTables,
        batch: RayBatch,
        options: TrainOptions,
        update: PlaneUpdate | None,
    ) -> None:
        self.trainer, self.tables, self.update = trainer, tables, update
        self.field_tables = _field_tables(tables)
        self.field = TrainField(library, self.field_tables)
        self.held: list[object] = []
        self.options = abi.Options(
            n=options.n_samples, **native.march_fields(options, tables.occupancy is not None)
        )
        self.batch = self._batch(batch, options)
        self.rgb = torch.empty(len(batch.origins), 3)
        self.density_lines = tuple(map(torch.empty_like, tables.density_lines))
        self.appearance_lines = tuple(map(torch.empty_like, tables.appearance_lines))
        self.density_planes: Planes | None = None
        self.appearance_planes: Planes | None = None
        if update is None:
            self.density_planes = tuple(map(torch.empty_like, tables.density_planes))
            self.appearance_planes = tuple(map(torch.empty_like, tables.appearance_planes))

    def run(self) -> StepResult:
        """Calls the library and gathers what it wrote."""
        tables, field = self.tables, self.field.field
        decoder = tables.decoder
        basis = torch.empty(decoder.basis.shape[0], field.n_appearance)
        density_basis = None if tables.density_basis is None else torch.empty(1, field.n_density)
        weights = [torch.empty_like(weight) for weight, _ in decoder.layers]
        biases = [torch.empty(len(weight)) for weight in weights]
        embedding = None if tables.embedding is None else torch.zeros_like(tables.embedding)
        output = train_abi.Output(
            rgb=self.rgb.data_ptr(),
            basis=basis.data_ptr(),
            density_basis=_pointer(density_basis),
            embedding=_pointer(embedding),
        )
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
            setattr(output, f"weight_{number}", weight.data_ptr())
            setattr(output, f"bias_{number}", bias.data_ptr())
        self._call(output)
        gradients = Gradients(
            density_lines=self.density_lines,
            appearance_lines=self.appearance_lines,
            basis=_unpadded(basis, tables.appearance_channels, tables.n_levels),
            layers=tuple(
                (weight, None if layer[1] is None else bias)
                for weight, bias, layer in zip(weights, biases, decoder.layers, strict=True)
            ),
            density_basis=None
            if density_basis is None
            else _unpadded(density_basis, tables.density_channels, tables.n_levels)[0],
            embedding=embedding,
            density_planes=self.density_planes,
            appearance_planes=self.appearance_planes,
        )
        return StepResult(
            rgb=self.rgb,
            loss=output.loss,
            gradients=gradients,
            distortion=output.distortion,
            n_inside=output.n_inside,
            n_dense=output.n_dense,
            n_shaded=output.n_shaded,
        )

    def _call(self, output: train_abi.Output) -> None:
        tables, update = self.tables, self.update
        density = self._train_tables(
            tables.density_planes,
            None if update is None else update.density_moments,
            self.density_planes,
            self.density_lines,
            tables.density_channels,
        )
        appearance = self._train_tables(
            tables.appearance_planes,
            None if update is None else update.appearance_moments,
            self.appearance_planes,
            self.appearance_lines,
            tables.appearance_channels,
        )
        self.trainer.train_step(
            self.field.handle,
            ctypes.byref(self.options),
            ctypes.byref(self.batch),
            density,
            appearance,
            ctypes.byref(_update(update)),
            ctypes.byref(output),
        )

    def _batch(self, batch: RayBatch, options: TrainOptions) -> train_abi.Batch:
        codes = None if batch.codes is None else self._hold(batch.codes)
        embedding = None if self.tables.embedding is None else self._hold(self.tables.embedding)
        return train_abi.Batch(
            len(batch.origins),
            options.distortion_weight,
            self._hold(batch.origins),
            self._hold(batch.directions),
            self._hold(batch.rgb),
            self._hold(batch.jitter),
            codes,
            embedding,
        )

    def _hold(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self.held.append(tensor)
        return tensor.data_ptr()

    def _train_tables(
        self,
        planes: Planes,
        moments: Sequence[tuple[Tensor, Tensor]] | None,
        plane_gradients: Planes | None,
        line_gradients: Planes,
        channels: tuple[int, ...],
    ) -> ctypes.Array[train_abi.TrainTable]:
        n_tables = len(planes)
        array = (train_abi.TrainTable * (self.tables.n_blocks * n_tables))()
        for p in range(n_tables):
            first, second = (None, None) if moments is None else moments[p]
            for block in range(self.tables.n_blocks):
                array[block * n_tables + p] = train_abi.TrainTable(
                    planes[p][block].data_ptr(),
                    _pointer(first, block),
                    _pointer(second, block),
                    _pointer(None if plane_gradients is None else plane_gradients[p], block),
                    line_gradients[p][block].data_ptr(),
                    channels[p // self.tables.n_levels],
                )
        return array


def _field_tables(tables: TrainTables) -> FieldTables:
    blocks = tuple(
        BlockTables(
            *(
                tuple(table[block] for table in group)
                for group in (
                    tables.density_planes,
                    tables.density_lines,
                    tables.appearance_planes,
                    tables.appearance_lines,
                )
            )
        )
        for block in range(tables.n_blocks)
    )
    return FieldTables(
        aabb=tables.aabb,
        division=tables.division,
        n_directions=tables.n_directions,
        n_levels=tables.n_levels,
        density_channels=tables.density_channels,
        appearance_channels=tables.appearance_channels,
        blocks=blocks,
        zero_sigma_outside=True,
        activation=tables.activation,
        density_shift=tables.density_shift,
        density_basis=tables.density_basis,
        decoder=tables.decoder,
        occupancy=tables.occupancy,
    )


def _update(update: PlaneUpdate | None) -> train_abi.Update:
    if update is None:
        return train_abi.Update()
    return train_abi.Update(
        is_on=1,
        step_size=update.learning_rate / (1 - update.beta1**update.count),
        inverse_root=1 / math.sqrt(1 - update.beta2**update.count),
        beta_1=update.beta1,
        beta_2=update.beta2,
        epsilon=update.epsilon,
        tv_density=update.tv_density,
        tv_appearance=update.tv_appearance,
        l1_density=update.l1_density,
    )


def _unpadded(weights: Tensor, channels: tuple[int, ...], n_levels: int) -> Tensor:
    """Takes [n, padded channels of all tables] to [n, n_levels * sum(channels)]."""
    columns = []
    first = 0
    for width in channels:
        for _ in range(n_levels):
            columns.append(weights[:, first : first + width])
            first += width + -width % CHANNEL_MULTIPLE
    return torch.cat(columns, dim=1)


def _pointer(tensor: Tensor | None, block: int | None = None) -> int | None:
    if tensor is None:
        return None
    return tensor.data_ptr() if block is None else tensor[block].data_ptr()
