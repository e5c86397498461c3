"""Settings of a training run: the model that is made, the losses and the schedules."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BLOCKS = 1024  # of one run; each is a file of its own, and LandMark gives each a process


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Defaults and meanings are LandMark's; its own key is named where it differs."""

    # The model
    directions: int = 1  # ndims: 1 (ground planes only) or 3
    levels: tuple[int, ...] = (1,)  # resMode: multiples of the grid's resolution
    density_channels: tuple[int, ...] = (16, 16, 16)  # n_lamb_sigma, one per direction
    appearance_channels: tuple[int, ...] = (48, 48, 48)  # n_lamb_sh, one per direction
    feature_dim: int = 27  # data_dim_color
    decoder_width: int = 128  # featureC
    feature_pe: int = 6  # fea_pe
    view_pe: int = 6
    bias: bool = False  # bias_enable
    appearance_codes: bool = False  # encode_app
    nonlinear_density: bool = False
    activation: str = "softplus"  # fea2denseAct: softplus or relu
    density_shift: float = -10.0
    distance_scale: float = 25.0
    weight_threshold: float = 0.001
    step_ratio: float = 0.5
    max_samples: int = 1_000_000  # nSamples: box samples per ray at most
    division: tuple[int, int] = (1, 1)  # plane_division of branch_parallel: blocks along x and y
    white_background: bool = False  # white_bkgd; otherwise white or black by a coin for each batch

    # Optimisation
    iterations: int = 30_000  # n_iters
    batch_size: int = 4096  # rays
    seed: int = 20211202  # random_seed
    learning_rate: float = 0.02  # lr_init: planes and lines
    network_learning_rate: float = 1e-3  # lr_basis: decoder, bases, codes
    nerf_learning_rate: float = 5e-4
    decay_iterations: int = -1  # lr_decay_iters; -1: all iterations
    decay_ratio: float = 0.1  # lr_decay_target_ratio, reached after decay_iterations
    reset_learning_rate: bool = True  # lr_upsample_reset

    # Losses
    l1_weight: float = 0.0  # L1_weight_inital
    orthogonality_weight: float = 0.0  # Ortho_weight
    tv_density_weight: float = 0.0  # TV_weight_density
    tv_appearance_weight: float = 0.0  # TV_weight_app
    distortion_from: int = -1  # add_distort: iteration from which it counts; -1: never
    distortion_weight: float = 0.01
    lpips_from: int = -1  # add_lpips: iteration from which batches are patches; -1: never
    lpips_weight: float = 0.01
    patch_size: int = 128  # pixels, LPIPS only

    # Schedules, by iteration
    voxels_start: int = 100**3  # N_voxel_init
    voxels_end: int = 300**3  # N_voxel_final
    upsample_at: tuple[int, ...] = ()  # upsamp_list
    update_mask_at: tuple[int, ...] = ()  # update_AlphaMask_list
    mask_threshold: float = 1e-4  # alpha_mask_thre: opacity of one step that counts as matter
    max_mask_voxels: int = 256**3  # alpha_grid_reso
    mask_filter_threshold: float = 0.0  # alpha_mask_filter_thre

    # NeRF branch
    nerf_from: int = -1  # add_nerf: iteration from which it is trained; -1: never
    nerf_depth: int = 6  # nerf_D
    nerf_color_depth: int = 2  # nerf_D_a
    nerf_width: int = 128  # nerf_W
    nerf_frequencies: int = 16  # nerf_freq
    n_importance: int = 128
    nerf_n_importance: int = 16
    residual_nerf: bool = False  # residnerf

    # The run
    test_every: int = 10_000  # vis_every: iterations between test renders
    test_views: int = 5  # N_vis; -1: all
    save_every: int = 1000  # iterations between saved states
    threads: int = 0  # 0: all cores
    device: str = "auto"  # auto, cpu or cuda
    backend: str = "auto"  # auto, native or torch
    tensorboard: bool = False
    half_planes: bool = False  # checkpoints hold planes and codes as float16, which LandMark reads as well

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return self.division[0] * self.division[1]

    @property
    def decay_factor(self) -> float:
        """Factor on learning rates and TV weights at every iteration."""
        count = self.decay_iterations if self.decay_iterations > 0 else self.iterations
        return float(self.decay_ratio ** (1 / max(count, 1)))

    @property
    def problem(self) -> str | None:
        """What is wrong between the fields."""
        if self.directions not in (1, 3):
            return f"must have directions 1 or 3, got {self.directions}"
        for name in ("density_channels", "appearance_channels"):
            if len(getattr(self, name)) < self.directions:
                got = getattr(self, name)
                return f"must have {name} for each of the {self.directions} directions, got {got}"
        if self.n_blocks > MAX_BLOCKS:
            return f"must have a division into at most {MAX_BLOCKS} blocks in one run, got {self.n_blocks}"
        if self.n_blocks > 1 and self.directions == 3:
            return "must have directions 1 when the field is divided into blocks, as in LandMark"
        if self.activation not in ("softplus", "relu"):
            return f"must have activation softplus or relu, got {self.activation}"
        if self.nerf_from >= 0 and self.n_importance < 3:
            return f"must have n_importance 3 or more for the NeRF branch, got {self.n_importance}"
        if self.lpips_from >= 0 and self.nerf_from >= 0:
            return "must not combine lpips_from and nerf_from"
        return None
