"""The structs of csrc/train_abi.h for ctypes, in the same order; `native` checks their sizes at load."""

from __future__ import annotations

from ctypes import Structure, c_double, c_float, c_int32, c_int64, c_void_p


class TrainTable(Structure):
    """LvTrainTable: what is written of one plane and its line."""

    _fields_ = (
        ("plane", c_void_p),
        ("moment_1", c_void_p),
        ("moment_2", c_void_p),
        ("plane_gradient", c_void_p),
        ("line_gradient", c_void_p),
        ("n_channels", c_int32),
        ("padding", c_int32),
    )


class Update(Structure):
    """LvUpdate: how planes are updated."""

    _fields_ = (
        ("is_on", c_int32),
        ("step_size", c_float),
        ("inverse_root", c_float),
        ("beta_1", c_float),
        ("beta_2", c_float),
        ("epsilon", c_float),
        ("tv_density", c_float),
        ("tv_appearance", c_float),
        ("l1_density", c_float),
    )


class Batch(Structure):
    """LvBatch: rays and what they should show."""

    _fields_ = (
        ("n_rays", c_int32),
        ("distortion_weight", c_float),
        ("origins", c_void_p),
        ("directions", c_void_p),
        ("rgb", c_void_p),
        ("jitter", c_void_p),
        ("codes", c_void_p),
        ("embedding", c_void_p),
    )


class Output(Structure):
    """LvTrainOutput: predictions, gradients and counts."""

    _fields_ = (
        ("rgb", c_void_p),
        ("basis", c_void_p),
        ("density_basis", c_void_p),
        ("weight_1", c_void_p),
        ("weight_2", c_void_p),
        ("weight_3", c_void_p),
        ("bias_1", c_void_p),
        ("bias_2", c_void_p),
        ("bias_3", c_void_p),
        ("embedding", c_void_p),
        ("loss", c_double),
        ("distortion", c_double),
        ("n_inside", c_int64),
        ("n_dense", c_int64),
        ("n_shaded", c_int64),
    )


STRUCTS = (TrainTable, Update, Batch, Output)
