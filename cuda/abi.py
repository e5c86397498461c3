"""The structs of csrc/abi.h for ctypes. Field by field the same order; `native` checks the sizes at load."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_void_p

ABI = 7
PAD = 32  # LV_PAD: numbers that may be read behind the last hull fraction


class Table(Structure):
    """LvTable: one plane with its line."""

    _fields_ = (
        ("plane", c_void_p),
        ("line", c_void_p),
        ("n_u", c_int32),
        ("n_v", c_int32),
        ("n_w", c_int32),
        ("channels", c_int32),
    )


class Mask(Structure):
    """LvMask: occupancy vertices and what is derived from them."""

    _fields_ = (
        ("nodes", c_void_p),
        ("any", c_void_p),
        ("all", c_void_p),
        ("distance", c_void_p),
        ("n", c_int32 * 3),
        ("bricks", c_int32 * 3),
        ("low", c_float * 3),
        ("scale", c_float * 3),
        ("shift", c_int32),
    )


class MaskPart(Structure):
    """LvMaskPart: a piece of the mask."""

    _fields_ = (("mask", Mask), ("first", c_int32 * 2))


class Stream(Structure):
    """LvStream: which blocks are in memory, and what stands in for the others."""

    _fields_ = (
        ("lacks", c_void_p),
        ("folded", c_void_p),
        ("coarse_density", c_void_p),
        ("coarse_appearance", c_void_p),
        ("coarse_folded", c_void_p),
        ("parts", c_void_p),
        ("fade", c_void_p),
    )


class Dense(Structure):
    """LvDense: one layer."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("n_in", c_int32), ("n_out", c_int32))


class Nerf(Structure):
    """LvNerf: the NeRF branch."""

    _fields_ = (
        ("point_layers", c_void_p),
        ("view_layers", c_void_p),
        ("density", Dense),
        ("feature", Dense),
        ("color", Dense),
        ("n_point_layers", c_int32),
        ("n_view_layers", c_int32),
        ("point_pe", c_int32),
        ("view_pe", c_int32),
        ("skip", c_int32),
    )


class Field(Structure):
    """LvField: one radiance field."""

    _fields_ = (
        ("low", c_float * 3),
        ("high", c_float * 3),
        ("columns", c_int32),
        ("rows", c_int32),
        ("n_directions", c_int32),
        ("n_levels", c_int32),
        ("half", c_int32),
        ("zero_sigma_outside", c_int32),
        ("activation", c_int32),
        ("nonlinear", c_int32),
        ("density_shift", c_float),
        ("n_density", c_int32),
        ("n_appearance", c_int32),
        ("density", c_void_p),
        ("appearance", c_void_p),
        ("density_basis", c_void_p),
        ("feature_dim", c_int32),
        ("hidden_1", c_int32),
        ("hidden_2", c_int32),
        ("latent_dim", c_int32),
        ("feature_pe", c_int32),
        ("view_pe", c_int32),
        ("basis", c_void_p),
        ("weight_1", c_void_p),
        ("weight_2", c_void_p),
        ("weight_3", c_void_p),
        ("bias_1", c_void_p),
        ("bias_2", c_void_p),
        ("bias_3", c_void_p),
        ("mask", Mask),
        ("nerf", c_void_p),
        ("stream", c_void_p),
    )


class EditOpStruct(Structure):
    """LvEditOp: one operation of an edit."""

    _fields_ = (
        ("kind", c_int32),
        ("inside", c_int32),
        ("footprint", c_void_p),
        ("n_x", c_int32),
        ("n_y", c_int32),
        ("low", c_float * 2),
        ("inverse_side", c_float),
        ("z_low", c_float),
        ("z_high", c_float),
        ("xx", c_float),
        ("xy", c_float),
        ("x0", c_float),
        ("y0", c_float),
        ("zz", c_float),
        ("z0", c_float),
        ("cosine", c_float),
        ("sine", c_float),
        ("source", c_int32),
        ("sigma_scale", c_float),
        ("ground", c_void_p),
        ("features", c_void_p),
        ("thickness", c_float),
        ("rise", c_float),
        ("sigma", c_float),
        ("empty_above", c_float),
        ("latent", c_void_p),
    )


class SourceStruct(Structure):
    """LvSource: another field that instances are read from."""

    _fields_ = (
        ("field", c_void_p),
        ("packed", c_void_p),
        ("latent", c_void_p),
        ("mask_threshold", c_float),
        ("use_mask", c_int32),
    )


class ReachStruct(Structure):
    """LvReach: where operations may put matter."""

    _fields_ = (("cells", c_void_p), ("n", c_int32 * 3), ("low", c_float * 3), ("side", c_float * 3))


class Edits(Structure):
    """LvEdits: operations, what they read, and what saves time in finding them."""

    _fields_ = (
        ("ops", c_void_p),
        ("sources", c_void_p),
        ("n_ops", c_int32),
        ("n_sources", c_int32),
        ("has_styles", c_int32),
        ("n_x", c_int32),
        ("n_y", c_int32),
        ("low", c_float * 2),
        ("scale", c_float * 2),
        ("cells", c_void_p),
        ("starts", c_void_p),
        ("items", c_void_p),
        ("room", Mask),
    )


class ViewStruct(Structure):
    """LvView: a pinhole view."""

    _fields_ = (
        ("c2w", c_float * 12),
        ("fl_x", c_float),
        ("fl_y", c_float),
        ("cx", c_float),
        ("cy", c_float),
        ("width", c_int32),
        ("height", c_int32),
    )


class Options(Structure):
    """LvOptions: what decides a picture beside field and view."""

    _fields_ = (
        ("sampling", c_int32),
        ("quality", c_int32),
        ("n", c_int32),
        ("threads", c_int32),
        ("use_mask", c_int32),
        ("near", c_float),
        ("far", c_float),
        ("step", c_float),
        ("distance_scale", c_float),
        ("weight_threshold", c_float),
        ("mask_threshold", c_float),
        ("background", c_float * 3),
        ("cluster_weight", c_float),
        ("fast_weight", c_float),
        ("fast_stop", c_float),
        ("fractions", c_void_p),
        ("latent", c_void_p),
        ("nerf", c_int32),
        ("nerf_n", c_int32),
        ("nerf_fractions", c_void_p),
        ("edits", c_void_p),
        ("fade", c_void_p),
        ("tight", c_void_p),
        ("bfloat16", c_int32),
    )


class Buffers(Structure):
    """LvBuffers: where the picture goes."""

    _fields_ = (
        ("rgb", c_void_p),
        ("opacity", c_void_p),
        ("depth", c_void_p),
        ("median_depth", c_void_p),
        ("normals", c_void_p),
        ("front", c_void_p),
    )


class Rays(Structure):
    """LvRays: single pixels instead of tiles."""

    _fields_ = (("pixels", c_void_p), ("start", c_void_p), ("n", c_int32))


class Control(Structure):
    """LvControl: tile order, cancel flag, progress."""

    _fields_ = (
        ("rays", c_void_p),
        ("order", c_void_p),
        ("n_tiles", c_int32),
        ("cancel", c_void_p),
        ("done_count", c_void_p),
        ("tile_done", c_void_p),
        ("tile_lacking", c_void_p),
        ("needs", c_void_p),
        ("lacking", c_void_p),
    )


class ColumnsStruct(Structure):
    """LvColumns: vertical lines, and where what is seen along them goes."""

    _fields_ = (
        ("low", c_float * 2),
        ("side", c_float),
        ("z_high", c_float),
        ("step", c_float),
        ("n_x", c_int32),
        ("n_y", c_int32),
        ("n", c_int32),
        ("height", c_void_p),
        ("opacity", c_void_p),
        ("features", c_void_p),
        ("lacking", c_void_p),
    )


STRUCTS = (
    Table,
    Mask,
    Nerf,
    Field,
    ViewStruct,
    Options,
    Buffers,
    Control,
    EditOpStruct,
    SourceStruct,
    ReachStruct,
    Edits,
    ColumnsStruct,
    MaskPart,
    Stream,
    Rays,
)
