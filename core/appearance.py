"""Appearance: how a scene is lit: by rows of its appearance table, an embedding of its own, and a grade."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Grade:
    """Development of the finished picture; the default changes nothing."""

    exposure: float = 0.0  # stops
    temperature: float = 0.0  # -1 (blue) to 1 (orange)
    tint: float = 0.0  # -1 (green) to 1 (magenta)

    @property
    def is_neutral(self) -> bool:
        """Whether it changes nothing."""
        return self == Grade()

    @property
    def gains(self) -> tuple[float, float, float]:
        """Factors on red, green and blue in linear light."""
        warm, magenta, stops = 0.5 * self.temperature, 0.5 * self.tint, 2.0**self.exposure
        red, green, blue = warm + magenta / 2, -magenta, magenta / 2 - warm
        return stops * 2.0**red, stops * 2.0**green, stops * 2.0**blue

    def apply(self, rgb: Tensor) -> Tensor:
        """Returns graded sRGB colours in [0, 1]; the gains act in linear light. [..., 3]"""
        import torch

        if self.is_neutral:
            return rgb
        linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = (linear * torch.tensor(self.gains, device=rgb.device)).clamp(0, 1)
        return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Appearance:
    """An appearance: a weighted mix of rows, or an embedding of its own, and a grade on top."""

    mix: tuple[tuple[int, float], ...] = ((0, 1.0),)  # rows of the table with their weights, sum 1
    latent: tuple[float, ...] = ()  # an embedding instead of the mix, e.g. one fitted to a photograph
    grade: Grade = field(default_factory=Grade)

    @classmethod
    def of(cls, code: int) -> Appearance:
        """Returns the appearance of one row."""
        return cls(((code, 1.0),))

    @classmethod
    def mixed(cls, weights: dict[int, float]) -> Appearance:
        """Returns a mix whose weights are scaled to the sum 1; rows with weight 0 are left out.

        Raises:
            InputError: A weight is negative or not finite, or all are 0.
        """
        if any(not math.isfinite(w) or w < 0 for w in weights.values()) or not sum(weights.values()) > 0:
            given = ", ".join(f"{code}: {weight:g}" for code, weight in weights.items())
            raise InputError(f"weights of a mix must be 0 or more, and not all 0, got {given or 'none'}")
        total = sum(weights.values())
        return cls(tuple((code, weight / total) for code, weight in weights.items() if weight > 0))

    @property
    def code(self) -> int | None:
        """The row, where it is a single one."""
        return self.mix[0][0] if len(self.mix) == 1 and not self.latent else None

    def resolved(self, table: Tensor | None) -> Appearance:
        """Returns the same look as an embedding of its own. table: as in `embedding`"""
        latent = self.embedding(table)
        return self if latent is None else replace(self, mix=Appearance().mix, latent=tuple(latent.tolist()))

    def embedding(self, table: Tensor | None, where: str = "appearance.code") -> Tensor | None:
        """Returns the embedding that the decoder is given; a single row exactly as it stands in the table.

        Args:
            table: The model's. [n_codes, latent_dim] None: the model has no appearance.
            where: Who asks, for error messages.

        Returns:
            None without a table, else [latent_dim].

        Raises:
            InputError: A row is not in the table, or the own embedding has another length.
        """
        import torch

        n_codes = 1 if table is None else len(table)
        for code, _ in self.mix:
            if not 0 <= code < n_codes:
                none = table is None
                has = "the model has no appearance table" if none else f"the table has {n_codes} rows"
                raise InputError(f"{where} must be from 0 to {n_codes - 1} ({has}), got {code}")
        if table is None:
            return None
        if self.latent:
            if len(self.latent) != table.shape[1]:
                raise InputError(
                    f"{where} must be an embedding of {table.shape[1]} numbers, got {len(self.latent)}"
                )
            return torch.tensor(self.latent, dtype=torch.float32)
        if len(self.mix) == 1:
            return table[self.mix[0][0]].to(torch.float32).clone()
        mixed: torch.Tensor = sum(weight * table[code].to(torch.float32) for code, weight in self.mix)  # type: ignore[assignment]
        return mixed


def blend(first: Appearance, second: Appearance, share: float) -> Appearance:
    """Returns what lies between two appearances, grades included; 0 and 1 give the two themselves.

    Args:
        first: A mix, or an embedding.
        second: Of the same kind; `Appearance.resolved` makes an embedding of a mix.
        share: Of the second, in [0, 1].

    Raises:
        InputError: One is a mix and the other an embedding.
    """
    if share <= 0:
        return first
    if share >= 1:
        return second

    def between(a: float, b: float) -> float:
        return (1 - share) * a + share * b

    grade = Grade(
        between(first.grade.exposure, second.grade.exposure),
        between(first.grade.temperature, second.grade.temperature),
        between(first.grade.tint, second.grade.tint),
    )
    if bool(first.latent) != bool(second.latent) or len(first.latent) != len(second.latent):
        raise InputError("two mixes or two embeddings of one length can be blended, got something else")
    if first.latent:
        latent = tuple(map(between, first.latent, second.latent))
        return Appearance(latent=latent, grade=grade)
    weights: dict[int, float] = {}
    for appearance, part in ((first, 1 - share), (second, share)):
        for code, weight in appearance.mix:
            weights[code] = weights.get(code, 0.0) + part * weight
    return replace(Appearance.mixed(weights), grade=grade)
