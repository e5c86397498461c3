"""The structs and entry points of csrc/warp*.h for ctypes, in the same order; `warp` checks their sizes."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_float, c_int, c_int32, c_int64, c_void_p

from .abi import ViewStruct


class KeyframeStruct(Structure):
    """LvKeyframe: a keyframe as it is to be used for one picture."""

    _fields_ = (
        ("view", ViewStruct),
        ("color", c_void_p),
        ("planes", c_void_p),
        ("trust", c_void_p),
    )


class SettingsStruct(Structure):
    """LvWarpSettings: tolerances."""

    _fields_ = (
        ("same", c_float),
        ("crack", c_float),
        ("edge", c_float),
        ("margin", c_float),
        ("life", c_int32),
    )


STRUCTS = (KeyframeStruct, SettingsStruct)


def declare(library: ctypes.CDLL) -> None:
    """States the types of the warp's entry points.

    Raises:
        AttributeError: The library lacks one.
        OSError: Its structs differ from these.
    """
    pointer, void = c_void_p, None
    signatures = {
        "lv_warp_abi": (void, [pointer]),
        "lv_warp_open": (pointer, [c_int] * 3),
        "lv_warp_close": (void, [pointer]),
        "lv_warp_next": (void, [pointer]),
        "lv_warp_forget": (void, [pointer]),
        "lv_warp_project": (c_int64, [pointer] * 3 + [c_int, pointer, c_float, c_int]),
        "lv_warp_choose": (c_int, [pointer] + [c_int] * 3 + [pointer] * 3),
        "lv_warp_put": (ctypes.c_double, [pointer] * 2 + [c_int] * 3 + [pointer] * 2),
        "lv_warp_fill_rest": (c_int64, [pointer]),
        "lv_warp_show": (void, [pointer] * 3 + [c_int64]),
        "lv_warp_image": (void, [pointer] * 2),
        "lv_warp_buffers": (void, [pointer] * 2),
        "lv_warp_starts": (void, [pointer] * 3 + [c_int, pointer, pointer, c_int64, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    sizes = (c_int32 * len(STRUCTS))()
    library.lv_warp_abi(sizes)
    if [*sizes] != [*map(ctypes.sizeof, STRUCTS)]:
        raise OSError(f"the warp's structs must have {[*map(ctypes.sizeof, STRUCTS)]} bytes, got {[*sizes]}")
