"""RESULTS.md: every bench keeps its table in a section of its own, with the machine it ran on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "RESULTS.md"


def write_section(name: str, text: str) -> None:
    """Puts a text between the marks of its section, in place of an older one; a new one goes to the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measurements\n"
    before, mark, rest = known.partition(begin)
    if not mark:
        before, rest = known.rstrip("\n") + "\n\n", f"{end}\n"
    RESULTS.write_text(f"{before}{begin}\n{text.strip()}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def machine() -> str:
    """Says when and on what this was measured."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.date.today().isoformat()}, {processor()}, {len(os.sched_getaffinity(0))} cores, "
        f"load {load:.1f}, Python {platform.python_version()}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads."
    )


def processor() -> str:
    """Returns the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
