"""Writes the zip file of torch.save, with LandMark's class names in its pickle."""

from __future__ import annotations

import copyreg
import pickle
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch

from .unpickle import ConfigRecord

# The numpy that LandMark asks for knows its own function by the older name only; later ones know both.
_NAMES = {
    ("numpy._core.multiarray", "_reconstruct"): b"numpy.core.multiarray\n_reconstruct\n",
    (ConfigRecord.__module__, ConfigRecord.__name__): b"app.tools.configs\nPrintableConfig\n",
}


class _LandmarkPickler(pickle._Pickler):
    """Names LandMark's class, which this program does not have; Python's faster pickler would import it.

    The type stubs know little of this one, hence the comments.
    """

    def reducer_override(self, value: Any) -> Any:
        """Writes a ConfigRecord as an object with these attributes."""
        if isinstance(value, ConfigRecord):
            return copyreg.__newobj__, (ConfigRecord,), value.attributes  # type: ignore[attr-defined]
        return NotImplemented

    def save_global(self, value: Any, name: str | None = None) -> None:
        """Writes the name of a function or class."""
        key = (getattr(value, "__module__", ""), getattr(value, "__name__", ""))
        if key in _NAMES:
            self.write(pickle.GLOBAL + _NAMES[key])  # type: ignore[attr-defined]
            self.memoize(value)  # type: ignore[attr-defined]
        else:
            super().save_global(value, name)  # type: ignore[misc]


def save_archive(root: dict[str, Any], file: BinaryIO) -> None:
    """Writes a checkpoint as torch.save does: stored entries, aligned to 64 bytes, pickle protocol 2.

    Args:
        root: Plain data, arrays and tensors; ConfigRecord becomes LandMark's PrintableConfig. Storages are
            written whole, so every tensor must own its.
        file: Open for writing.
    """
    torch.save(root, file, pickle_module=SimpleNamespace(__name__="pickle", Pickler=_LandmarkPickler))
