"""Reads the small networks of a state_dict and checks their shapes against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...cuda.tables import DecoderWeights, NerfWeights
from ..errors import InputError
from .header import Header
from .values import show

NERF_SKIP = 4  # LandMark concatenates the input again after this layer, if further layers follow
NO_SKIP = -1


@dataclass(frozen=True)
class StateDict:
    """Tensors by name; remembers which were used, so that the rest can be reported."""

    file: str
    tensors: Mapping[str, Tensor]
    used: set[str] = field(default_factory=set)

    def take(self, key: str) -> Tensor:
        """Returns a tensor that must be there, floating-point but of any precision."""
        if key not in self.tensors:
            raise InputError(
                f"{self.file}: state_dict.{key} is missing, so this is not a complete LandMark file"
            )
        tensor = self.tensors[key]
        self.used.add(key)
        if not tensor.is_floating_point():
            raise InputError(
                f"{self.file}: state_dict.{key} must hold floating-point numbers, got {tensor.dtype}"
            )
        return tensor

    def matrix(self, key: str, n_out: int | None, n_in: int | None, reason: str) -> Tensor:
        """Copies a weight matrix, float32, whose shape must be the given one where that is known."""
        tensor = self.take(key)
        right = tensor.dim() == 2 and n_out in (None, tensor.shape[0]) and n_in in (None, tensor.shape[1])
        if not right or tensor.numel() == 0:
            wanted = f"({n_out or 'rows'}, {n_in or 'columns'})"
            raise self._wrong_shape(key, wanted, reason)
        return self._finite(key)

    def vector(self, key: str, length: int) -> Tensor:
        """Copies a bias, float32, of the given length."""
        if tuple(self.take(key).shape) != (length,):
            raise self._wrong_shape(key, f"({length},)", "its weight says")
        return self._finite(key)

    def linear(self, prefix: str, n_out: int | None, n_in: int | None, reason: str) -> tuple[Tensor, Tensor]:
        """Copies weight and bias of a layer."""
        weight = self.matrix(f"{prefix}.weight", n_out, n_in, reason)
        return weight, self.vector(f"{prefix}.bias", weight.shape[0])

    def count(self, prefix: str, suffix: str) -> int:
        """Counts the consecutive numbers from 0 on for which prefix + number + suffix exists."""
        number = 0
        while f"{prefix}{number}{suffix}" in self.tensors:
            number += 1
        return number

    def unused(self) -> list[str]:
        """Lists the tensors that nothing asked for."""
        return sorted(set(self.tensors) - self.used)

    def _wrong_shape(self, key: str, wanted: str, reason: str) -> InputError:
        got = show(tuple(self.tensors[key].shape))
        return InputError(
            f"{self.file}: state_dict.{key} must have the shape {wanted} as {reason}, got {got}"
        )

    def _finite(self, key: str) -> Tensor:
        copy = self.tensors[key].detach().to(torch.float32, copy=True).contiguous()
        if not bool(torch.isfinite(copy).all()):
            raise InputError(
                f"{self.file}: state_dict.{key} must hold finite numbers; the training has diverged"
            )
        return copy


def read_embedding(state: StateDict) -> Tensor | None:
    """Reads the appearance table. [n_images, latent_dim]"""
    if "embedding_app.weight" not in state.tensors:
        return None
    return state.matrix("embedding_app.weight", None, None, "one row per image needs")


def read_density_basis(state: StateDict, n_products: int) -> Tensor | None:
    """Reads the weights of nonlinear density. [1, n_products]"""
    if "basis_den.weight" not in state.tensors:
        return None
    return state.matrix("basis_den.weight", 1, n_products, "the density planes' levels and channels say")


def read_decoder(state: StateDict, header: Header, n_products: int, latent_dim: int) -> DecoderWeights:
    """Reads the colour network."""
    dim, width = header.feature_dim, header.hidden_dim
    n_in = dim + latent_dim
    n_in += 3 if header.view_pe > -1 else 0
    n_in += 2 * dim * header.fea_pe if header.fea_pe > 0 else 0
    n_in += 6 * header.view_pe if header.view_pe > 0 else 0
    has_bias = "renderModule.mlp.0.bias" in state.tensors
    inputs = "kwargs.app_dim, featureC, view_pe, fea_pe and the appearance table say"
    layers = []
    for number, n_out, n_from in ((0, width, n_in), (2, width, width), (4, 3, width)):
        name = f"renderModule.mlp.{number}"
        weight = state.matrix(f"{name}.weight", n_out, n_from, inputs)
        layers.append((weight, state.vector(f"{name}.bias", n_out) if has_bias else None))
    return DecoderWeights(
        basis=state.matrix(
            "basis_mat.weight", dim, n_products, "kwargs.app_dim and the appearance planes say"
        ),
        layers=tuple(layers),
        feature_pe=header.fea_pe,
        view_pe=header.view_pe,
        latent_dim=latent_dim,
    )


def read_nerf(state: StateDict, n_density: int, n_appearance: int, latent_dim: int) -> NerfWeights | None:
    """Reads the NeRF branch: D point layers of width W, then D_a view layers."""
    if not any(key.startswith("nerf.") for key in state.tensors):
        return None
    n_points = max(state.count("nerf.pts_linears.", ".weight"), 1)
    first = state.linear("nerf.pts_linears.0", None, None, "a layer needs")
    width, n_in = first[0].shape
    point_pe = _frequencies(state, "nerf.pts_linears.0.weight", n_in - 3 - n_density)
    skip = NERF_SKIP if n_points > NERF_SKIP + 1 else NO_SKIP
    points = [first]
    for number in range(1, n_points):
        n_from = width + (n_in if number == skip + 1 else 0)
        points.append(state.linear(f"nerf.pts_linears.{number}", width, n_from, "the layers before it say"))
    n_views = max(state.count("nerf.views_linears.", ".weight"), 1)
    view = state.linear("nerf.views_linears.0", None, None, "a layer needs")
    view_width, n_in = view[0].shape
    view_pe = _frequencies(state, "nerf.views_linears.0.weight", n_in - width - 3 - n_appearance - latent_dim)
    views = [view]
    for number in range(1, n_views):
        views.append(
            state.linear(f"nerf.views_linears.{number}", view_width, view_width, "the layers before it say")
        )
    return NerfWeights(
        point_layers=tuple(points),
        density=state.linear("nerf.alpha_linear", 1, width, "the point layers say"),
        feature=state.linear("nerf.feature_linear", width, width, "the point layers say"),
        view_layers=tuple(views),
        color=state.linear("nerf.rgb_linear", 3, view_width, "the view layers say"),
        point_pe=point_pe,
        view_pe=view_pe,
        skip=skip,
    )


def _frequencies(state: StateDict, key: str, n_encoded: int) -> int:
    """Solves 6 * frequencies = width for three encoded coordinates."""
    if n_encoded < 0 or n_encoded % 6:
        raise InputError(
            f"{state.file}: state_dict.{key} must have as many columns as planes, appearance "
            f"table and whole frequencies need, got the shape {show(tuple(state.tensors[key].shape))}"
        )
    return n_encoded // 6
