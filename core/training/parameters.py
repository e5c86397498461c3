"""The trainable field: every parameter, its Adam moments, and what changes them between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cuda.tables import CHANNEL_MULTIPLE, DecoderWeights, NerfWeights, OccupancyNodes
from ...cuda.train_tables import TrainTables
from ...cuda.train_torch import mask_values, sigma
from ..blocks import BlockLayout
from ..errors import InputError
from ..gridnerf import DIRECTION_AXES, FieldBlock, GridNeRF, Parts
from ..occupancy import OccupancyGrid
from ..settings import LANDMARK_DEFAULTS, ModelSettings
from .initial import channels_of, new_decoder, new_nerf, uniform
from .photos import TrainingData
from .schedules import GridSize, grid_size_for, sample_step
from .settings import TrainSettings

LATENT_DIM = 48  # LandMark's length of an appearance code
INITIAL_SCALE = 0.1  # standard deviation of planes and lines
ALPHA_CHUNK = 1 << 17  # vertices whose opacity is computed at once


@dataclass
class FieldParameters:
    """A GridNeRF under training, all blocks in one, float32 on one device.

    Tables are stacked over blocks and channel-last, as TrainTables describes them. `named` gives every
    parameter its key in a LandMark checkpoint; `moments` are kept under the same keys.
    """

    settings: TrainSettings
    aabb: Tensor  # [2, 3] on the CPU
    grid_size: tuple[int, int, int]  # vertices of level 0 across the whole field
    near_far: tuple[float, float]
    density_planes: list[Tensor]  # p -> [n_blocks, n_v, n_u, padded channels]
    density_lines: list[Tensor]  # p -> [n_blocks, n_w, padded channels]
    appearance_planes: list[Tensor]
    appearance_lines: list[Tensor]
    basis: Tensor  # [feature_dim, n_levels * sum(appearance_channels)]
    layers: list[tuple[Tensor, Tensor | None]]  # three of (weight, bias)
    density_basis: Tensor | None = None  # [n_levels * sum(density_channels)]
    embedding: Tensor | None = None  # [n_codes, 48]
    nerf: NerfWeights | None = None
    occupancy: OccupancyGrid | None = None
    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    count: int = 0  # Adam steps since the moments were zero

    def __post_init__(self) -> None:
        if not self.moments:
            self._forget_moments()

    @classmethod
    def create(cls, settings: TrainSettings, data: TrainingData, device: torch.device) -> FieldParameters:
        """Makes a field with LandMark's initial values, drawn from `settings.seed`."""
        random = torch.Generator().manual_seed(settings.seed)
        grid_size = grid_size_for(settings.voxels_start, data.bounds)
        density, appearance = channels_of(settings)
        density_planes, density_lines = _new_tables(settings, grid_size, density, random)
        appearance_planes, appearance_lines = _new_tables(settings, grid_size, appearance, random)
        n_density, n_appearance = (len(settings.levels) * sum(n) for n in (density, appearance))
        latent_dim = LATENT_DIM if settings.appearance_codes else 0
        return cls(
            settings=settings,
            aabb=torch.tensor(data.bounds, dtype=torch.float32),
            grid_size=grid_size,
            near_far=data.near_far,
            density_planes=density_planes,
            density_lines=density_lines,
            appearance_planes=appearance_planes,
            appearance_lines=appearance_lines,
            basis=uniform(random, settings.feature_dim, n_appearance),
            layers=new_decoder(settings, latent_dim, random),
            density_basis=uniform(random, 1, n_density)[0] if settings.nonlinear_density else None,
            embedding=torch.randn(data.n_codes, latent_dim, generator=random) if latent_dim else None,
        ).to(device)

    @classmethod
    def from_model(cls, model: GridNeRF, settings: TrainSettings, n_codes: int) -> FieldParameters:
        """Takes over a finished model on the CPU, to train it further.

        What the model itself says, its shape and how it is rendered, replaces what `settings` say. Rows that
        the appearance table lacks for n_codes are drawn from `settings.seed`.

        Raises:
            InputError: A block is missing or of another size than the first.
        """
        return _from_model(model, settings, n_codes)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.basis.device

    def to(self, device: torch.device) -> FieldParameters:
        """Returns the field on another device, moments zero; on its own device itself."""
        if device == self.device:
            return self
        grid = self.occupancy

        def maybe(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            density_planes=[table.to(device) for table in self.density_planes],
            density_lines=[table.to(device) for table in self.density_lines],
            appearance_planes=[table.to(device) for table in self.appearance_planes],
            appearance_lines=[table.to(device) for table in self.appearance_lines],
            basis=self.basis.to(device),
            layers=[(weight.to(device), maybe(bias)) for weight, bias in self.layers],
            density_basis=maybe(self.density_basis),
            embedding=maybe(self.embedding),
            nerf=None if self.nerf is None else self.nerf.map(lambda tensor: tensor.to(device)),
            occupancy=None if grid is None else OccupancyGrid(grid.nodes.to(device), grid.aabb.to(device)),
            moments={},
            count=0,
        )

    def named(self) -> dict[str, Tensor]:
        """Returns every parameter under its LandMark key, `density_plane.0`, `nerf.rgb_linear.bias` ..."""
        named = {
            **name_tables("density_plane", self.density_planes),
            **name_tables("density_line", self.density_lines),
            **name_tables("app_plane", self.appearance_planes),
            **name_tables("app_line", self.appearance_lines),
        }
        return named | name_small(self.basis, self.layers, self.density_basis, self.embedding, self.nerf)

    def tables(self) -> TrainTables:
        """Returns the parameters as the kernels read them; no copies."""
        settings, grid = self.settings, self.occupancy
        if grid is not None and grid.nodes.device != self.device:
            grid = self.occupancy = OccupancyGrid(grid.nodes.to(self.device), grid.aabb.to(self.device))
        density, appearance = channels_of(settings)
        return TrainTables(
            aabb=self.aabb,
            division=settings.division,
            n_directions=settings.directions,
            n_levels=len(settings.levels),
            density_channels=density,
            appearance_channels=appearance,
            density_planes=tuple(self.density_planes),
            density_lines=tuple(self.density_lines),
            appearance_planes=tuple(self.appearance_planes),
            appearance_lines=tuple(self.appearance_lines),
            activation=settings.activation,
            density_shift=settings.density_shift,
            density_basis=self.density_basis,
            decoder=self._decoder(self.basis, self.layers),
            embedding=self.embedding,
            nerf=self.nerf,
            occupancy=None if grid is None else OccupancyNodes(grid.nodes, grid.aabb),
        )

    def model(self) -> GridNeRF:
        """Returns the field as it stands, for rendering; planes are views, valid until the next step."""
        settings, grid = self.settings, self.occupancy
        density, appearance = channels_of(settings)
        layers = [(weight.cpu(), None if bias is None else bias.cpu()) for weight, bias in self.layers]
        return GridNeRF(
            aabb=self.aabb,
            grid_size=self.grid_size,
            density_channels=density,
            appearance_channels=appearance,
            n_levels=len(settings.levels),
            layout=BlockLayout(settings.division),
            blocks=tuple(self._block(number) for number in range(settings.n_blocks)),
            decoder=self._decoder(self.basis.cpu(), layers),
            activation=settings.activation,
            density_shift=settings.density_shift,
            distance_scale=settings.distance_scale,
            weight_threshold=settings.weight_threshold,
            near_far=self.near_far,
            step_ratio=settings.step_ratio,
            settings=self._model_settings(),
            density_basis=None if self.density_basis is None else self.density_basis.cpu()[None],
            embedding=None if self.embedding is None else self.embedding.cpu(),
            nerf=None if self.nerf is None else self.nerf.map(Tensor.cpu),
            occupancy=None if grid is None else OccupancyGrid(grid.nodes.cpu(), grid.aabb.cpu()),
            zero_sigma_outside=True,
        )

    def upsample(self, grid_size: tuple[int, int, int]) -> None:
        """Resamples planes and lines bilinearly to a finer grid and forgets the moments."""
        self.moments = {}  # frees their memory first
        self.grid_size = grid_size
        for planes, lines in (
            (self.density_planes, self.density_lines),
            (self.appearance_planes, self.appearance_lines),
        ):
            for p in range(len(planes)):
                plane, line = _table_sizes(self.settings, grid_size, p)
                planes[p] = _resized(planes[p], plane[1:])
                lines[p] = _resized(lines[p][:, :, None], (line[1], 1))[:, :, 0]
        self._forget_moments()

    def update_mask(self) -> str | None:
        """Rebuilds the alpha mask from the density; returns a warning if nothing passes (the mask stays).

        A vertex is set if the opacity of one step (without distance_scale) reaches `mask_threshold` there or
        at one of its 26 neighbours; outside the present mask it counts as 0. The mask has the field's grid
        size, or where that exceeds `max_mask_voxels` the size of the mask before.
        """
        size = self._mask_size()
        opacity = self._opacity(size)
        spread = F.max_pool3d(opacity[None], kernel_size=3, stride=1, padding=1)[0]
        nodes = spread >= self.settings.mask_threshold
        if not bool(nodes.any()):
            return (
                f"the opacity of a step must reach {self.settings.mask_threshold:g} somewhere for an alpha "
                f"mask, got {float(opacity.max()):.2g} at most; the mask stays as it is"
            )
        self.occupancy = OccupancyGrid(nodes.to(torch.uint8), self.aabb.to(self.device))
        return None

    def add_nerf(self) -> None:
        """Adds the NeRF branch, initialised as LandMark does, and forgets the moments."""
        random = torch.Generator().manual_seed(self.settings.seed + 1)
        latent_dim = 0 if self.embedding is None else self.embedding.shape[1]
        nerf = new_nerf(self.settings, latent_dim, random)
        self.nerf = nerf.map(lambda tensor: tensor.to(self.device))
        self._forget_moments()

    def _forget_moments(self) -> None:
        self.moments = {
            key: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for key, tensor in self.named().items()
        }
        self.count = 0

    def _decoder(self, basis: Tensor, layers: Sequence[tuple[Tensor, Tensor | None]]) -> DecoderWeights:
        latent_dim = 0 if self.embedding is None else self.embedding.shape[1]
        return DecoderWeights(
            basis, tuple(layers), self.settings.feature_pe, self.settings.view_pe, latent_dim
        )

    def _block(self, number: int) -> FieldBlock:
        density, appearance = channels_of(self.settings)

        def views(tables: Sequence[Tensor], channels: tuple[int, ...]) -> tuple[Parts, ...]:
            n_levels = len(self.settings.levels)
            return tuple(
                (table[number, ..., : channels[p // n_levels]].movedim(-1, 0),)
                for p, table in enumerate(tables)
            )

        return FieldBlock(
            views(self.density_planes, density),
            views(self.density_lines, density),
            views(self.appearance_planes, appearance),
            views(self.appearance_lines, appearance),
        )

    def _model_settings(self) -> ModelSettings:
        settings = self.settings
        return ModelSettings(
            white_background=settings.white_background,
            n_importance=settings.n_importance,
            nerf_n_importance=settings.nerf_n_importance,
            alpha_mask_threshold=settings.mask_filter_threshold,
            plane_division=settings.division,
            run_nerf=self.nerf is not None,
            residual_nerf=settings.residual_nerf,
        ).over(LANDMARK_DEFAULTS)

    def _mask_size(self) -> GridSize:
        limit = self.settings.max_mask_voxels
        if self.grid_size[0] * self.grid_size[1] * self.grid_size[2] < limit:
            return self.grid_size
        if self.occupancy is not None:
            n_z, n_y, n_x = self.occupancy.nodes.shape
            return n_x, n_y, n_z
        return grid_size_for(limit, self.aabb.tolist())

    def _opacity(self, size: GridSize) -> Tensor:
        """Returns the opacity of one step at the vertices of a grid. [n_z, n_y, n_x]"""
        low, high = self.aabb.to(self.device)
        shares = [torch.linspace(0, 1, n, device=self.device) for n in size]
        x, y, z = (low[i] * (1 - shares[i]) + high[i] * shares[i] for i in range(3))
        tables, step = self.tables(), sample_step(self.settings, self.aabb.tolist(), self.grid_size)
        opacity = torch.zeros(size[2], size[1], size[0], device=self.device)
        flat = opacity.view(-1)
        for first in range(0, flat.numel(), ALPHA_CHUNK):
            number = torch.arange(first, min(first + ALPHA_CHUNK, flat.numel()), device=self.device)
            column, row = number % size[0], torch.div(number, size[0], rounding_mode="floor")
            points = torch.stack([x[column], y[row % size[1]], z[row // size[1]]], dim=-1)
            if tables.occupancy is not None:
                kept = mask_values(tables.occupancy, points) > 0
                number, points = number[kept], points[kept]
            flat[number] = 1 - torch.exp(-sigma(tables, points) * step)
        return opacity


def name_small(
    basis: Tensor,
    layers: Sequence[tuple[Tensor, Tensor | None]],
    density_basis: Tensor | None,
    embedding: Tensor | None,
    nerf: NerfWeights | None,
) -> dict[str, Tensor]:
    """Returns what is neither plane nor line, parameters or their gradients, under its LandMark key."""
    named = {"basis_mat.weight": basis}
    if density_basis is not None:
        named["basis_den.weight"] = density_basis
    if embedding is not None:
        named["embedding_app.weight"] = embedding
    named_layers = {f"renderModule.mlp.{2 * number}": layer for number, layer in enumerate(layers)}
    if nerf is not None:
        named_layers |= {f"nerf.pts_linears.{k}": layer for k, layer in enumerate(nerf.point_layers)}
        named_layers |= {f"nerf.views_linears.{k}": layer for k, layer in enumerate(nerf.view_layers)}
        named_layers |= {"nerf.alpha_linear": nerf.density, "nerf.feature_linear": nerf.feature}
        named_layers |= {"nerf.rgb_linear": nerf.color}
    for key, (weight, bias) in named_layers.items():
        named[f"{key}.weight"] = weight
        if bias is not None:
            named[f"{key}.bias"] = bias
    return named


def name_tables(name: str, tables: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns planes or lines, or their gradients, under their LandMark keys."""
    return {f"{name}.{p}": table for p, table in enumerate(tables)}


def _table_sizes(settings: TrainSettings, grid_size: GridSize, p: int) -> tuple[GridSize, tuple[int, int]]:
    """Returns (n_blocks, n_v, n_u) and (n_blocks, n_w) of tables p; LandMark rounds halves to even."""
    multiple = settings.levels[p % len(settings.levels)]
    u, v, w = DIRECTION_AXES[p // len(settings.levels)]
    parts = (*settings.division, 1)
    n_u, n_v = (max(round(grid_size[axis] * multiple / parts[axis]), 2) for axis in (u, v))
    return (settings.n_blocks, n_v, n_u), (settings.n_blocks, grid_size[w] * multiple)


def _new_tables(
    settings: TrainSettings, grid_size: GridSize, channels: tuple[int, ...], random: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Draws all planes and lines of density or of appearance; channels: one number per direction."""
    planes, lines = [], []
    for p in range(settings.directions * len(settings.levels)):
        n = channels[p // len(settings.levels)]
        plane, line = _table_sizes(settings, grid_size, p)
        planes.append(_padded(torch.randn(*plane, n, generator=random).mul_(INITIAL_SCALE)))
        lines.append(_padded(torch.randn(*line, n, generator=random).mul_(INITIAL_SCALE)))
    return planes, lines


def _padded(table: Tensor) -> Tensor:
    """Pads channels, the last axis, with zeros."""
    return F.pad(table, (0, -table.shape[-1] % CHANNEL_MULTIPLE)).contiguous()


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Resamples [n_blocks, n_v, n_u, channels] bilinearly, corners kept, one block at a time."""
    resized = planes.new_empty(len(planes), *size, planes.shape[-1])
    for block, plane in enumerate(planes):
        channels_first = plane.movedim(-1, 0)[None]
        found = F.interpolate(channels_first, size=size, mode="bilinear", align_corners=True)
        resized[block] = found[0].movedim(0, -1)
    return resized


def _from_model(model: GridNeRF, settings: TrainSettings, n_codes: int) -> FieldParameters:
    blocks = [block for block in model.blocks if block is not None]
    if len(blocks) != model.layout.n_blocks:
        raise InputError(
            f"a model must have all of its {model.layout.n_blocks} blocks to be trained, got {len(blocks)}"
        )
    grid_size = model.grid_size
    if len(blocks) > 1 and not model.zero_sigma_outside:  # LandMark's merged files state one block's size
        columns, rows = model.layout.division
        grid_size = (grid_size[0] * columns, grid_size[1] * rows, grid_size[2])
    density_lines = _stacked_tables([block.density_lines for block in blocks])
    n_w = grid_size[DIRECTION_AXES[0][2]]
    levels = tuple(max(round(line.shape[1] / n_w), 1) for line in density_lines[: model.n_levels])
    decoder, embedding = model.decoder, model.embedding
    voxel = (model.aabb[1] - model.aabb[0]) / (torch.tensor(grid_size) - 1)
    step_ratio = float(model.step / voxel.mean())  # trained with the step that it is rendered with
    return FieldParameters(
        settings=replace(_settings_of(model, settings, levels), step_ratio=step_ratio),
        aabb=_copy(model.aabb),
        grid_size=grid_size,
        near_far=model.near_far,
        density_planes=_stacked_tables([block.density_planes for block in blocks]),
        density_lines=density_lines,
        appearance_planes=_stacked_tables([block.appearance_planes for block in blocks]),
        appearance_lines=_stacked_tables([block.appearance_lines for block in blocks]),
        basis=_copy(decoder.basis),
        layers=[(_copy(weight), None if bias is None else _copy(bias)) for weight, bias in decoder.layers],
        density_basis=None if model.density_basis is None else _copy(model.density_basis).reshape(-1),
        embedding=None if embedding is None else _resized_codes(embedding, n_codes, settings.seed),
        nerf=None if model.nerf is None else model.nerf.map(_copy),
        occupancy=model.occupancy,
    )


def _settings_of(model: GridNeRF, settings: TrainSettings, levels: tuple[int, ...]) -> TrainSettings:
    """Returns the settings with everything that a model says of itself in its place."""
    decoder = model.decoder
    return replace(
        settings,
        directions=model.n_directions,
        levels=levels,
        density_channels=model.density_channels,
        appearance_channels=model.appearance_channels,
        feature_dim=decoder.basis.shape[0],
        decoder_width=decoder.layers[0][0].shape[0],
        feature_pe=decoder.feature_pe,
        view_pe=decoder.view_pe,
        bias=decoder.layers[0][1] is not None,
        appearance_codes=model.embedding is not None,
        nonlinear_density=model.density_basis is not None,
        activation=model.activation,
        density_shift=model.density_shift,
        distance_scale=model.distance_scale,
        weight_threshold=model.weight_threshold,
        division=model.layout.division,
    )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32, copy=True).contiguous()


def _stacked_tables(blocks: Sequence[Sequence[Parts]]) -> list[Tensor]:
    return [_stacked(parts) for parts in zip(*blocks, strict=True)]


def _stacked(blocks: Sequence[Parts]) -> Tensor:
    """Stacks one table of all blocks, channel-last and padded."""
    sizes = {tuple(parts[0].shape[1:]) for parts in blocks}
    if len(sizes) > 1:
        found = " and ".join(" x ".join(map(str, size)) for size in sorted(sizes))
        raise InputError(f"the blocks of a model must be of one size to be trained, got {found} vertices")
    tables = [torch.cat([part.to(torch.float32) for part in parts]).movedim(0, -1) for parts in blocks]
    return _padded(torch.stack(tables))


def _resized_codes(embedding: Tensor, n_codes: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    codes = torch.randn(n_codes, embedding.shape[1], generator=random)
    n_kept = min(n_codes, len(embedding))
    codes[:n_kept] = embedding[:n_kept]
    return codes
