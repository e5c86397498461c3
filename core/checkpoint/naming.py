"""What LandMark's file names say, and which file of a folder to open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

_STEM = re.compile(
    r"(?P<experiment>.*?)"
    r"(?:-sub(?P<index>0|[1-9]\d{0,5})|-(?P<variant>merged|merged-stack(?:-wo_plane|-wo_state_dict)?))?"
)
STORE_INDEX = "store.json"  # makes a folder a block store
STORE_JOURNAL = "convert.journal"  # of a block store that is not finished
# Of several files of one experiment, the first of these is opened.
_PREFERENCE = ("merged-stack", "merged", "", "sub", "merged-stack-wo_plane", "merged-stack-wo_state_dict")


@dataclass(frozen=True)
class CheckpointName:
    """The parts of `<experiment>[-sub<index> | -<variant>].th`."""

    folder: Path
    experiment: str
    suffix: str
    index: int | None = None
    variant: str = ""

    @classmethod
    def parse(cls, path: Path) -> CheckpointName:
        """Splits a file name; one that follows no pattern is all experiment."""
        match = _STEM.fullmatch(path.stem)
        if match is None:
            return cls(path.parent, path.stem, path.suffix)
        index = match["index"]
        return cls(
            path.parent,
            match["experiment"],
            path.suffix,
            None if index is None else int(index),
            match["variant"] or "",
        )

    @property
    def role(self) -> str:
        """Which kind of file of its experiment this is, as in `_PREFERENCE`."""
        return "sub" if self.index is not None else self.variant

    def sub_path(self, index: int) -> Path:
        """Returns the path of a sub file of the same experiment."""
        return self.folder / f"{self.experiment}-sub{index}{self.suffix}"

    def variant_path(self, variant: str) -> Path:
        """Returns the path of another file of the same experiment."""
        return self.folder / f"{self.experiment}-{variant}{self.suffix}"

    def sub_paths(self) -> dict[int, Path]:
        """Returns the experiment's sub files that exist, by index."""
        found = {}
        for path in self.folder.iterdir():
            name = CheckpointName.parse(path)
            same = name.experiment == self.experiment and name.suffix == self.suffix
            if same and name.index is not None and path.is_file():
                found[name.index] = path
        return dict(sorted(found.items()))


def find_checkpoint(folder: Path) -> Path:
    """Returns the checkpoint of a folder that holds one experiment; for sub files, the first of the set.

    Of a block store that is its index.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path")
    if (folder / STORE_INDEX).is_file():
        return folder / STORE_INDEX
    if (folder / STORE_JOURNAL).is_file():
        raise InputError(
            f"{folder}: must hold a finished block store, but its conversion was stopped; "
            "run the same landmark-viewer convert again, which goes on where it was"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".th" and path.is_file())
    if not paths:
        raise InputError(f"{folder}: must hold a checkpoint (a file ending in .th), but holds none")
    names = [(CheckpointName.parse(path), path) for path in paths]
    experiments = sorted({name.experiment for name, _ in names})
    if len(experiments) > 1:
        shown = ", ".join(experiments[:6]) + (", ..." if len(experiments) > 6 else "")
        raise InputError(
            f"{folder}: must hold the files of one experiment, but holds {len(experiments)} ({shown}); "
            "name the file to open"
        )
    return min(names, key=lambda pair: (_PREFERENCE.index(pair[0].role), pair[0].index or 0))[1]
