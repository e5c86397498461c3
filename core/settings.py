"""Settings that a LandMark checkpoint does not hold and that a scene or a config must supply."""

from dataclasses import dataclass, fields, replace
from enum import Enum


class Sampling(str, Enum):
    """How sample distances are chosen along a ray (LandMark's `sampling_opt` 0 and 1)."""

    BOX = "box"
    HULL = "hull"


class Precision(str, Enum):
    """Number format of the planes that the kernels read; AUTO is full unless the planes exceed 1 GiB."""

    AUTO = "auto"
    FULL = "full"
    HALF = "half"


@dataclass(frozen=True)
class ModelSettings:
    """What must be known beside the tensors to render a checkpoint; None means not stated."""

    white_background: bool | None = None
    sampling: Sampling | None = None
    n_importance: int | None = None  # samples per ray with hull sampling
    nerf_n_importance: int | None = None  # further samples per ray of the NeRF branch
    alpha_mask_threshold: float | None = None  # a sample is kept where the mask exceeds this
    plane_division: tuple[int, int] | None = None  # blocks along x and y
    near_far: tuple[float, float] | None = None  # scene units
    run_nerf: bool | None = None  # evaluate the NeRF branch; LandMark's renderer never does
    residual_nerf: bool | None = None  # add the NeRF branch to the grid's colour

    def over(self, fallback: "ModelSettings") -> "ModelSettings":
        """Returns these settings with every unstated one taken from `fallback`."""
        unstated = {f.name for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **{name: getattr(fallback, name) for name in unstated})


# LandMark's own defaults, for what neither the scene, nor the config, nor the file states.
LANDMARK_DEFAULTS = ModelSettings(
    white_background=False,
    sampling=Sampling.BOX,
    n_importance=128,
    nerf_n_importance=16,
    alpha_mask_threshold=0.0,
    run_nerf=False,
    residual_nerf=False,
)
