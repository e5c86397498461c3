"""LandMark's colour network in plain torch, and how samples of a ray share its evaluations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .lookup import in_chunks
from .tables import DecoderWeights, Quality

DECODER_CHUNK = 2048  # features decoded at once on a CPU
CLUSTER_WEIGHT = 0.3  # clustered: weight that the samples of one decoder evaluation hold together


class Decoder:
    """LandMark's colour network; what is the same along a ray is computed once per ray."""

    def __init__(self, weights: DecoderWeights, device: torch.device) -> None:
        self.weights = weights
        self.layers = [
            (weight.to(device), None if bias is None else bias.to(device)) for weight, bias in weights.layers
        ]
        n, n_frequencies = weights.basis.shape[0], max(weights.feature_pe, 0)
        widths = [n, weights.latent_dim, 3 if weights.view_pe > -1 else 0]
        widths += [2 * n * n_frequencies, 6 * max(weights.view_pe, 0)]
        feature, latent, direction, pe, direction_pe = torch.split(self.layers[0][0], widths, dim=1)
        # [hidden, sine or cosine, dimension, frequency] -> the order of `_encode_by_frequency`
        by_frequency = pe.reshape(len(pe), 2, n, n_frequencies).permute(0, 3, 1, 2).flatten(1)
        self.per_sample = torch.cat([feature, by_frequency], dim=1)
        self.per_ray = torch.cat([latent, direction, direction_pe], dim=1)

    def ray_inputs(self, directions: Tensor, latent: Tensor | None) -> Tensor:
        """Returns the first layer's share of direction, latent and bias. [n, 3] -> [n, hidden]"""
        inputs = [directions.new_empty(len(directions), 0)]
        if self.weights.latent_dim and latent is not None:
            inputs.append(latent.to(directions.device).expand(len(directions), -1))
        if self.weights.view_pe > -1:
            inputs.append(directions)
        if self.weights.view_pe > 0:
            inputs.append(encode(directions, self.weights.view_pe))
        return F.linear(torch.cat(inputs, dim=-1), self.per_ray, self.layers[0][1])

    def colors(self, features: Tensor, per_ray: Tensor) -> Tensor:
        """Returns colours [n, 3]; per_ray: `ray_inputs` of each feature's ray. [n, hidden]"""
        inputs = _encode_by_frequency(features, self.weights.feature_pe)
        hidden = torch.relu_(torch.addmm(per_ray, inputs, self.per_sample.T))
        hidden = torch.relu_(F.linear(hidden, *self.layers[1]))
        return torch.sigmoid(F.linear(hidden, *self.layers[2]))


def _encode_by_frequency(values: Tensor, n_frequencies: int) -> Tensor:
    """Returns values, then sine and cosine of values * 2^k for each k; odd k come from the double angle."""
    parts = [values]
    for k in range(n_frequencies):
        if k % 2:
            sine, cosine = parts[-2], parts[-1]
            parts += [2 * sine * cosine, 1 - 2 * sine * sine]
        else:
            angle = values * 2.0**k
            parts += [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts, dim=-1) if n_frequencies > 0 else values


def encode(values: Tensor, n_frequencies: int) -> Tensor:
    """Encodes [n, dim] as [sin(v * 2^k), cos(v * 2^k)], dimension-major. [n, 2 * dim * n_frequencies]"""
    bands = 2.0 ** torch.arange(n_frequencies, device=values.device)
    angles = (values[..., None] * bands).flatten(-2)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


def decode_runs(
    decoder: Decoder, features: Tensor, weight: Tensor, run: Tensor, per_run: Tensor, quality: Quality
) -> tuple[Tensor, Tensor]:
    """Colours samples that come one after the other along their rays.

    Args:
        decoder: The network.
        features: Appearance features. [n, feature_dim]
        weight: Of each sample. [n]
        run: Number of the run that a sample belongs to, never falling. Only samples of a run share
            evaluations: the stretch of a ray that has one owner, or the whole ray. [n]
        per_run: `Decoder.ray_inputs` of every run. [n_runs, hidden]
        quality: Which samples of a run share an evaluation.

    Returns:
        Colour times weight of every evaluation [n_rows, 3] and its run. [n_rows]
    """
    if quality is not Quality.EXACT:
        features, weight, run = _merge(features, weight, run, quality)
    rgb = in_chunks(
        lambda feature, index: decoder.colors(feature, per_run[index]), DECODER_CHUNK, features, run
    )
    return weight[:, None] * rgb, run


def _merge(features: Tensor, weight: Tensor, run: Tensor, quality: Quality) -> tuple[Tensor, Tensor, Tensor]:
    """Averages neighbouring samples of a run by weight: all of them, or those that hold CLUSTER_WEIGHT."""
    key = run
    if quality is Quality.CLUSTERED:
        n_keys = int(1 / CLUSTER_WEIGHT) + 2
        total = weight.cumsum(0, dtype=torch.float64)
        starts = torch.cat([torch.ones_like(run[:1], dtype=torch.bool), run[1:] != run[:-1]])
        before = total - weight
        before = before - before[starts][starts.cumsum(0) - 1]
        key = run * n_keys + (before / CLUSTER_WEIGHT).long().clamp(0, n_keys - 1)
    groups, index = torch.unique_consecutive(key, return_inverse=True)
    mass = weight.new_zeros(len(groups)).index_add_(0, index, weight)
    merged = features.new_zeros(len(groups), features.shape[1])
    merged.index_add_(0, index, features * weight[:, None])
    if quality is Quality.CLUSTERED:
        groups = torch.div(groups, int(1 / CLUSTER_WEIGHT) + 2, rounding_mode="floor")
    return merged / mass[:, None], mass, groups
