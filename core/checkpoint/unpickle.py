"""Interprets the pickle inside a torch.save file without running anything of it.

Python's own unpickler calls whatever a file names and can be made to fill the memory. This one knows the
few names that LandMark's files use, stands in for each with plain data, and refuses the rest by name.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .values import show

MAX_INSTRUCTIONS = 1_000_000
MAX_BYTES = 128 << 20  # made from text by _codecs.encode; the masks of a city take 2 MiB
MAX_DIMENSIONS = 8

StorageReader = Callable[[torch.dtype, str, int], Tensor]

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NAMES = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch.Size",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "app.tools.configs.PrintableConfig",
    *(f"torch.{name}" for name in _STORAGES),
}
_PUSHED = {
    *(
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
    ),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class ConfigRecord:
    """Stands in for LandMark's PrintableConfig: an object that is nothing but its attributes."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Global:
    """A name from the allow-list; it is never looked up, `_reduce` knows what it means."""

    name: str


@dataclass
class _ByteType:
    """Stands in for numpy.dtype('u1'), the only one in use."""


@dataclass
class ByteArray:
    """Stands in for a uint8 numpy array until its state arrives."""

    values: np.ndarray | None = None


class _MalformedError(Exception):
    """An instruction does not fit what is on the stack."""


# What a damaged pickle can lead to in the few lines below.
_DAMAGE = (
    *(_MalformedError, ValueError, TypeError, AttributeError),
    *(IndexError, KeyError, OverflowError, struct.error),
)


class Unpickler:
    """One pass over one pickle."""

    def __init__(self, file: str, read_storage: StorageReader) -> None:
        self._file = file
        self._read_storage = read_storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._n_bytes = 0

    def load(self, pickle: bytes) -> Any:
        """Returns the pickled value: plain data, tensors, ByteArray and ConfigRecord."""
        name = "first"
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
                name = opcode.name
                if count >= MAX_INSTRUCTIONS:
                    self._refuse(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
                if name == "STOP":
                    return self._stack.pop()
                self._step(name, argument)
        except InputError:
            raise
        except _DAMAGE as error:
            raise InputError(
                f"{self._file}: data.pkl must be a pickle as torch.save writes it, but its {name} instruction"
                " cannot be carried out; the file is damaged, so copy it again"
            ) from error
        return self._refuse("its pickle has no end")

    def _refuse(self, reason: str) -> NoReturn:
        raise InputError(
            f"{self._file}: must hold nothing but LandMark's data, but {reason}; "
            "nothing of it was run and the file is refused"
        )

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _PUT:
            self._memo[argument] = self._stack[-1]
        elif name in _GET:
            self._stack.append(self._memo[argument])
        elif name in _TUPLES:
            self._tuple(_TUPLES[name])
        elif name in ("GLOBAL", "INST"):
            self._global(argument)
        elif name not in ("PROTO", "FRAME"):
            handler = getattr(self, f"_on_{name.lower()}", None)
            if handler is None:
                self._refuse(f"its pickle uses the instruction {name}, which torch.save does not write")
            handler()

    # Containers

    def _on_mark(self) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _on_memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _on_pop(self) -> None:
        self._stack.pop()

    def _on_empty_dict(self) -> None:
        self._stack.append({})

    def _on_empty_list(self) -> None:
        self._stack.append([])

    def _on_dict(self) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set_items(items)

    def _on_list(self) -> None:
        self._stack.append(self._since_mark())

    def _on_tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise _MalformedError
        self._stack[-length:] = [tuple(self._stack[-length:])]

    def _on_append(self) -> None:
        self._append([self._stack.pop()])

    def _on_appends(self) -> None:
        self._append(self._since_mark())

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise _MalformedError
        self._stack[-1].extend(items)

    def _on_setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _on_setitems(self) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _MalformedError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):  # a nested tuple could take for ever to hash
                raise _MalformedError
            target[key] = value

    # Names and what stands in for them

    def _global(self, argument: str) -> None:
        name = argument.replace(" ", ".", 1)
        if name not in _NAMES:
            self._refuse(f"its pickle asks for {ascii(name[:80])[1:-1]}")
        self._stack.append(_Global(name))

    def _on_stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _MalformedError
        self._global(f"{module} {name}")

    def _on_binpersid(self) -> None:
        kind, storage, key, _location, count = self._stack.pop()
        if (
            kind != "storage"
            or not isinstance(storage, _Global)
            or not isinstance(key, str)
            or not _is_size(count)
        ):
            raise _MalformedError
        dtype = _STORAGES[storage.name.removeprefix("torch.")]
        self._stack.append(self._read_storage(dtype, key, count))

    def _on_reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise _MalformedError
        self._stack.append(self._stand_in(function.name, arguments))

    def _on_newobj(self) -> None:
        arguments, cls = self._stack.pop(), self._stack.pop()
        if cls != _Global("app.tools.configs.PrintableConfig") or arguments != ():
            raise _MalformedError
        self._stack.append(ConfigRecord())

    def _stand_in(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*arguments[:4])
        if name == "collections.OrderedDict" and not arguments:
            return {}
        if name == "torch.Size":
            (sizes,) = arguments
            return _sizes(sizes)
        if name == "_codecs.encode":
            text, encoding = arguments
            return self._encoded(text, encoding)
        if name.endswith("multiarray._reconstruct") and arguments[0] == _Global("numpy.ndarray"):
            return ByteArray()
        if name == "numpy.dtype":
            if arguments[0] != "u1":
                self._refuse("it holds a numpy array that is not of unsigned bytes")
            return _ByteType()
        raise _MalformedError

    def _encoded(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _MalformedError
        self._n_bytes += len(text)
        if self._n_bytes > MAX_BYTES:
            self._refuse(f"its pickle unfolds to more than {MAX_BYTES} bytes")
        return text.encode("latin1")

    def _on_build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, ConfigRecord) and isinstance(state, dict):
            target.attributes = state
        elif isinstance(target, ByteArray):
            _version, shape, dtype, _fortran, content = state
            if (
                not isinstance(dtype, _ByteType)
                or not isinstance(content, bytes)
                or _sizes(shape) != (len(content),)
            ):
                raise _MalformedError
            target.values = np.frombuffer(content, dtype=np.uint8)
        elif not isinstance(target, (_ByteType, dict)):  # byte order, and the _metadata of a state_dict
            raise _MalformedError

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> Tensor:
        shape, stride = _sizes(shape), _sizes(stride)
        if not isinstance(storage, Tensor) or not _is_size(offset) or len(shape) != len(stride):
            raise _MalformedError
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        available = storage.numel()
        if len(shape) > MAX_DIMENSIONS or math.prod(n for n in shape if n) >= 2**62:
            self._refuse(f"it holds a tensor of the absurd shape {show(shape)}")
        if 0 in shape:
            return storage.new_empty(shape)
        if last >= available or math.prod(shape) > available:
            self._refuse(f"it holds a tensor of shape {show(shape)} in a storage of {available} numbers")
        return storage.as_strided(shape, stride, offset)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(_is_size(item) for item in value):
        raise _MalformedError
    return tuple(value)
