"""Procedural cities as block stores, for tests and benches: boxes on flat ground, of any number of blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.checkpoint.landmark import Opened
from landmark_viewer.core.gridnerf import FieldBlock, GridNeRF
from landmark_viewer.core.settings import LANDMARK_DEFAULTS, ModelSettings, Precision
from landmark_viewer.core.store.convert import draft_of
from landmark_viewer.core.store.original import Original
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.store.writer import StoreWriter
from landmark_viewer.core.training.parameters import name_small
from landmark_viewer.cuda.stream_tables import MaskGrid
from landmark_viewer.cuda.tables import DecoderWeights

SIDE = 1.0  # of a block, scene units
HEIGHT = 0.5  # of the box
BUCKETS = 8  # heights of buildings, one density channel each
COLORS = 8  # appearance channels
LEVELS = 24  # texels of a line
GROUND = 1  # texels of a line that the ground fills
OPACITY = 60.0
MASK_SIDE = 16  # cells of the mask along a block
MASK_SPARE = 4  # cells of the mask beyond the field, so that all parts of it have one size


def make_city_store(
    path: Path,
    division: tuple[int, int],
    *,
    texels: int = 64,
    seed: int = 0,
    distinct: int = 4,
    missing: Collection[int] = (),
    half: bool = True,
    mask: bool = True,
) -> Store:
    """Writes a city and opens it.

    Args:
        path: Folder of the store.
        division: Blocks along x and y, up to 100 x 100.
        texels: Of a plane along one side of a block; a block takes some texels ** 2 * 32 bytes in half.
        seed: Another number is another city.
        distinct: Blocks that really differ; the files of the others are hard links to theirs.
        missing: Numbers of blocks that do not exist.
        half: Whether planes are float16.
        mask: Whether there is an alpha mask.
    """
    random = torch.Generator().manual_seed(seed)
    model = _city_model(division, random)
    numbers = [number for number in range(division[0] * division[1]) if number not in set(missing)]
    blocks = [_Block(texels, random) for _ in range(min(distinct, len(numbers)))]
    first = replace(model, blocks=(blocks[0].field(),), layout=BlockLayout((1, 1)))
    opened = Opened(first, (), "procedural city", (path / "city",))
    precision = Precision.HALF if half else Precision.FULL
    draft = replace(draft_of(Original(opened), precision), division=division)
    if mask:
        draft = replace(draft, mask=_mask_grid(division))
    networks = name_small(model.decoder.basis, model.decoder.layers, None, model.embedding, None)
    with StoreWriter(path, draft, networks) as writer:
        for place, number in enumerate(numbers):
            at = (number // division[1] * MASK_SIDE, number % division[1] * MASK_SIDE)
            begin = (at[0] + MASK_SPARE - 2, at[1] + MASK_SPARE - 2)
            if place < len(blocks):
                part = (blocks[place].mask(), begin) if mask else None
                writer.put(number, blocks[place].field(), part)
            else:
                writer.put_copy(number, numbers[(place * 7 + seed) % len(blocks)], begin)
        writer.commit()
    return Store.open(path)


def resident(store: Store) -> GridNeRF:
    """Returns the whole field in memory, as if it came from a checkpoint."""
    model = store.model()
    blocks = tuple(block and FieldBlock(*map(_copied, _groups(block))) for block in model.blocks)
    return replace(model, blocks=blocks, source=None)


class _Block:
    """A few buildings with streets round them."""

    def __init__(self, texels: int, random: torch.Generator) -> None:
        self._texels = texels
        self._heights = torch.zeros(texels, texels, dtype=torch.int64)  # bucket; 0: street. [n_y, n_x]
        lots = 2 + int(torch.randint(0, 2, (), generator=random))
        street = max(texels // 12, 1)
        for i in range(lots):
            for j in range(lots):
                x0, x1 = i * texels // lots + street, (i + 1) * texels // lots - street
                y0, y1 = j * texels // lots + street, (j + 1) * texels // lots - street
                self._heights[y0:y1, x0:x1] = torch.randint(1, BUCKETS, (), generator=random)
        coarse = torch.rand(1, COLORS, 5, 5, generator=random)
        smooth = F.interpolate(coarse, (texels, texels), mode="bilinear", align_corners=True)
        self._colors = smooth[0] - 0.5
        self._colors[0] = torch.where(self._heights > 0, 1.0, -1.0)

    def field(self) -> FieldBlock:
        """Returns planes and lines."""
        plane = F.one_hot(self._heights, BUCKETS).movedim(-1, 0).float()
        z = torch.arange(LEVELS)
        tops = torch.tensor([_top(bucket) for bucket in range(BUCKETS)])
        line = torch.where(z[None] <= tops[:, None], OPACITY, -OPACITY)
        return FieldBlock(((plane,),), ((line,),), ((self._colors,),), ((torch.ones(COLORS, LEVELS),),))

    def mask(self) -> Tensor:
        """Returns vertices of the alpha mask, with two to spare on every side. uint8 [n_z, n_y, n_x]"""
        n = MASK_SIDE + 1
        tops = torch.tensor([_top(bucket) for bucket in range(BUCKETS)])[self._heights].float()
        tops = F.adaptive_max_pool2d(tops[None], (n, n))[0]
        wide = F.max_pool2d(tops[None], 3, 1, 1)[0]
        wide = F.pad(wide[None], (2, 2, 2, 2), mode="replicate")[0]
        z = torch.arange(MASK_SIDE) / (MASK_SIDE - 1) * (LEVELS - 1)
        return (z[:, None, None] <= wide[None] + 2).to(torch.uint8)


def _top(bucket: int) -> int:
    """Returns the highest texel of a line that a building fills; of a street, the ground."""
    return GROUND if bucket == 0 else GROUND + 2 + bucket * (LEVELS - 6) // BUCKETS


def _mask_grid(division: tuple[int, int]) -> MaskGrid:
    spare = MASK_SPARE * SIDE / MASK_SIDE
    size = [n * SIDE + spare for n in division]
    aabb = torch.tensor([[-spare, -spare, 0.0], [*size, HEIGHT]])
    n_x, n_y = (n * MASK_SIDE + 2 * MASK_SPARE + 1 for n in division)
    return MaskGrid((n_x, n_y, MASK_SIDE), aabb)


def _city_model(division: tuple[int, int], random: torch.Generator) -> GridNeRF:
    """Returns everything but the blocks."""
    features, hidden, latent = 8, 16, 4
    n_inputs = features + latent + 3
    first = torch.randn(hidden, n_inputs, generator=random) * 0.6
    first[:, features + latent :] *= 0.1  # little depends on the direction
    second = torch.randn(hidden, hidden, generator=random) * 0.5
    last = torch.randn(3, hidden, generator=random) * 0.8
    return GridNeRF(
        aabb=torch.tensor([[0.0, 0.0, 0.0], [division[0] * SIDE, division[1] * SIDE, HEIGHT]]),
        grid_size=(64 * division[0], 64 * division[1], 32),
        density_channels=(BUCKETS,),
        appearance_channels=(COLORS,),
        n_levels=1,
        layout=BlockLayout(division),
        blocks=(),
        decoder=DecoderWeights(
            torch.eye(features, COLORS),
            ((first, torch.zeros(hidden)), (second, torch.zeros(hidden)), (last, torch.zeros(3))),
            0,
            0,
            latent,
        ),
        activation="relu",
        density_shift=0.0,
        distance_scale=25.0,
        weight_threshold=1e-4,
        near_far=(0.05, 6.0),
        step_ratio=0.5,
        settings=ModelSettings(white_background=True, plane_division=division).over(LANDMARK_DEFAULTS),
        embedding=torch.randn(3, latent, generator=random),
    )


def _groups(block: FieldBlock) -> tuple[tuple[tuple[Tensor, ...], ...], ...]:
    return block.density_planes, block.density_lines, block.appearance_planes, block.appearance_lines


def _copied(group: tuple[tuple[Tensor, ...], ...]) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(tuple(part.clone() for part in parts) for parts in group)
