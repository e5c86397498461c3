"""Fitting an appearance to a photograph: the embedding alone is optimised, geometry and decoder stay.

What a ray meets does not depend on the embedding. So some pixels of the photograph are traced once, and every
iteration only runs the decoder on their samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.tables import NerfMode, RenderOptions
from .appearance import Appearance
from .camera import Camera
from .compositing import render_weights
from .errors import InputError
from .gridnerf import GridNeRF
from .rays import generate_rays, view_of
from .render import Renderer, RenderSettings, options_for
from .sampling import sample_box, sample_hull, spacings

N_PIXELS = 4096  # of the photograph that are compared
FEWEST_PIXELS = 32  # that must show the scene
VISIBLE = 0.5  # opacity from which a pixel shows the scene
CHUNK = 256  # rays traced at a time
N_STARTS = 64  # rows of the table that the search may begin at
ROUNDS, ITERATIONS = 24, 5  # of L-BFGS
SETTLED = 1e-3  # share of the error that a round must take off, else it was the last
HOLD = 1e-5  # weight of what keeps numbers near the start of which the photograph says nothing
TRACING = 0.5  # share of the progress


@dataclass(frozen=True)
class Control:
    """How the caller follows a fit and ends it early."""

    progress: Callable[[float], None] = lambda share: None  # told the share that is done, in [0, 1]
    is_cancelled: Callable[[], bool] = lambda: False


def fit_appearance(
    renderer: Renderer,
    camera: Camera,
    photo: np.ndarray,
    background: tuple[float, float, float] | None = None,
    mask: np.ndarray | None = None,
    control: Control | None = None,
) -> Appearance | None:
    """Returns the embedding with which the scene looks most like a photograph; the same one every time.

    A photograph shows the world, not what was edited in it: edits are not asked.

    Args:
        renderer: Of a model with an appearance table.
        camera: The photograph's, at its size.
        photo: Colours in [0, 1]. [height, width, 3]
        background: Colour behind the scene; None: as the model says.
        mask: Pixels to compare; None: all. bool [height, width]
        control: Progress and cancelling.

    Returns:
        None if it was cancelled.

    Raises:
        InputError: The model has no table, the photograph does not fit the camera, or too little of the scene
            is seen in it.
    """
    control = control or Control()
    model = renderer.model
    if model.embedding is None:
        raise InputError("an appearance can be fitted to scenes with an appearance table, this one has none")
    if photo.shape != (camera.height, camera.width, 3):
        shape = " x ".join(map(str, photo.shape))
        raise InputError(
            f"the photograph must be {camera.height} x {camera.width} x 3 numbers for its camera, got {shape}"
        )
    options = options_for(model, RenderSettings(background=background))
    if options.nerf is not NerfMode.OFF:
        raise InputError(
            "an appearance can be fitted with model.run_nerf: false only: a NeRF branch has its own colours"
        )
    pixels = _choose(camera.width * camera.height, mask)
    colors = torch.from_numpy(np.ascontiguousarray(photo.reshape(-1, 3)[pixels.numpy()], np.float32))
    rays = generate_rays(view_of(camera), pixels)
    parts = []
    for first in range(0, len(pixels), CHUNK):
        if control.is_cancelled():
            return None
        part = slice(first, first + CHUNK)
        parts.append(_trace(renderer, options, rays[0][part], rays[1][part], first))
        control.progress(TRACING * first / len(pixels))
    error = _Error(model, _joined(parts), colors)
    return _optimise(error, model.embedding.to(torch.float32), control)


def _choose(n_pixels: int, mask: np.ndarray | None) -> Tensor:
    """Returns the numbers of some pixels, spread at random but always the same. int64 [n]"""
    allowed = np.arange(n_pixels) if mask is None else np.flatnonzero(mask)
    _require_enough(len(allowed))
    if len(allowed) > N_PIXELS:
        allowed = np.sort(np.random.default_rng(0).choice(allowed, N_PIXELS, replace=False))
    return torch.from_numpy(allowed.astype(np.int64))


def _require_enough(n_pixels: int) -> None:
    if n_pixels < FEWEST_PIXELS:
        raise InputError(
            f"the scene must fill at least {FEWEST_PIXELS} of the pixels compared, it fills {n_pixels}; "
            "choose a view that looks at it"
        )


@dataclass(frozen=True)
class _Traced:
    """What rays meet, as far as the embedding does not change it."""

    ray: Tensor  # number of each sample's ray [n]
    weight: Tensor  # of each sample [n]
    inputs: Tensor  # sums of the decoder's first layer without the embedding's share [n, hidden]
    rest: Tensor  # what each ray sees beside its samples: the background [n_rays, 3]
    opacity: Tensor  # [n_rays]


def _trace(renderer: Renderer, options: RenderOptions, rays_o: Tensor, rays_d: Tensor, first: int) -> _Traced:
    """Finds the samples that the renderer shades. The rays are numbered from `first` on."""
    model = renderer.model
    bounds = (options.near, options.far)
    if options.sampling == "hull":
        t = sample_hull(rays_o, rays_d, model.aabb, bounds, options.n_importance)
    else:
        t = sample_box(rays_o, rays_d, model.aabb, bounds, torch.tensor(options.step), options.n_samples)
    points = rays_o[:, None] + rays_d[:, None] * t[..., None]
    kept = ((points >= model.aabb[0]) & (points <= model.aabb[1])).all(dim=-1)
    if model.occupancy is not None and kept.any():
        kept[kept.clone()] = model.occupancy.sample(points[kept]) > options.mask_threshold
    sigma, found = torch.zeros_like(t), renderer.probe(points[kept].contiguous())
    sigma[kept] = found.sigma
    weights = render_weights(sigma, spacings(t, 0.0) * options.distance_scale)
    is_shaded = weights[kept] > options.weight_threshold
    ray = kept.nonzero()[:, 0][is_shaded]
    features = found.appearance_feature[is_shaded]
    opacity = weights.sum(dim=-1)
    background = torch.tensor(options.background)
    return _Traced(
        ray + first,
        weights[kept][is_shaded],
        _first_layer(model, features, rays_d[ray]),
        (1 - opacity[:, None]) * background,
        opacity,
    )


def _first_layer(model: GridNeRF, features: Tensor, directions: Tensor) -> Tensor:
    """Returns the sums of the decoder's first layer for an embedding of zeros. [n, hidden]"""
    weight, bias = model.decoder.layers[0]
    if not len(features):
        return features.new_zeros(0, len(weight))
    zeros = torch.zeros(model.decoder.latent_dim)
    return F.linear(model.decoder_inputs(features, directions, zeros), weight, bias)


def _joined(parts: list[_Traced]) -> _Traced:
    fields = ("ray", "weight", "inputs", "rest", "opacity")
    return _Traced(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


class _Error:
    """How far the scene in an embedding is from the photograph."""

    def __init__(self, model: GridNeRF, traced: _Traced, colors: Tensor) -> None:
        """colors: of the photograph where the rays go. [n_rays, 3]

        Raises:
            InputError: Hardly any ray meets the scene.
        """
        decoder = model.decoder
        features = decoder.basis.shape[0]
        self._to_hidden = decoder.layers[0][0][:, features : features + decoder.latent_dim]
        self._layers = decoder.layers[1:]
        self._traced, self._colors = traced, colors
        self._counts = (traced.opacity > VISIBLE)[:, None].to(torch.float32)
        n_counted = int(self._counts.sum())
        _require_enough(n_counted)
        self._scale = 1 / (3 * n_counted)

    def __call__(self, latent: Tensor) -> Tensor:
        """Returns the mean squared error of the pixels that show the scene. [latent_dim] -> scalar"""
        traced = self._traced
        hidden = torch.relu(traced.inputs + self._to_hidden @ latent)
        for weight, bias in self._layers[:-1]:
            hidden = torch.relu(F.linear(hidden, weight, bias))
        colors = torch.sigmoid(F.linear(hidden, *self._layers[-1]))
        seen = traced.rest.index_add(0, traced.ray, traced.weight[:, None] * colors)
        return ((seen.clamp(0, 1) - self._colors).square() * self._counts).sum() * self._scale


def _optimise(error: _Error, table: Tensor, control: Control) -> Appearance | None:
    """Goes downhill from the best of some rows and their mean."""
    start, spread = _best_start(error, table), table.std(dim=0, correction=0).mean().clamp(min=1e-3)
    latent = start.clone().requires_grad_()
    search = torch.optim.LBFGS([latent], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = error(latent) + HOLD * ((latent - start) / spread).square().mean()
        torch.autograd.backward(loss)
        return loss

    before = float("inf")
    for number in range(ROUNDS):
        if control.is_cancelled():
            return None
        control.progress(TRACING + (1 - TRACING) * number / ROUNDS)
        begun: Tensor = search.step(closure)  # type: ignore[no-untyped-call]
        now = float(begun.detach())  # the error at the beginning of the round
        if now > (1 - SETTLED) * before:
            break
        before = now
    control.progress(1.0)
    return Appearance(latent=tuple(latent.detach().tolist()))


def _best_start(error: _Error, table: Tensor) -> Tensor:
    """Returns the row, or the mean of all, that is nearest to the photograph. [latent_dim]"""
    rows = torch.unique(table, dim=0)
    if len(rows) > N_STARTS:
        rows = rows[torch.linspace(0, len(rows) - 1, N_STARTS).long()]
    starts = torch.cat([table.mean(dim=0, keepdim=True), rows])
    with torch.no_grad():
        errors = [float(error(start)) for start in starts]
    return starts[int(np.argmin(errors))]
