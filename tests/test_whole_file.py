"""A checkpoint is replaced whole or not at all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from landmark_viewer.core.checkpoint.write import write_checkpoint
from landmark_viewer.core.errors import InputError

from .test_checkpoint_write import make, same_fields, write


@pytest.mark.parametrize("name", ["city-sub3", "city-merged", "city-merged-stack", "a/b", ""])
def test_a_name_that_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="the name of a checkpoint must be a plain file name"):
        write_checkpoint(make(), tmp_path, name, {})
    assert list(tmp_path.iterdir()) == []


BROKEN_WRITE = """
import os, resource, signal, sys
from pathlib import Path
from tests.test_checkpoint_write import make, write
from landmark_viewer.core.checkpoint import archive
from landmark_viewer.core.errors import InputError

folder = Path(sys.argv[1])
parameters = make(division=(2, 2))
for tensor in parameters.named().values():
    tensor.zero_()
if sys.argv[2] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    save, count = archive.torch.save, iter(range(100))
    def save_or_die(*arguments, **options):
        save(*arguments, **options)
        if next(count) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    archive.torch.save = save_or_die
try:
    write(parameters, folder)
except InputError as error:
    print(error)
"""


def run_broken_write(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", BROKEN_WRITE, str(folder), how]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    write(make(division=(2, 2)), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = run_broken_write(tmp_path, "full")
    assert re.fullmatch(
        r"\S+\.th must be writable, got: File too large; nothing was changed, .*\n", done.stdout
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_kill_leaves_the_old_files(tmp_path: Path) -> None:
    parameters = make(division=(2, 2))
    paths = write(parameters, tmp_path)
    before = {path: path.read_bytes() for path in paths}
    assert run_broken_write(tmp_path, "kill").returncode == -9
    assert {path: path.read_bytes() for path in paths} == before
    same_fields(parameters, tmp_path)
    assert set(tmp_path.iterdir()) > set(paths)  # what was under way
    write(parameters, tmp_path)
    assert set(tmp_path.iterdir()) == set(paths)
    assert {path: path.read_bytes() for path in paths} == before  # the same field gives the same bytes


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run/\S+ must be writable, got: Not a directory"):
        write(make(), tmp_path / "file" / "run")


def test_errors_of_the_program_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a slip")

    monkeypatch.setattr("landmark_viewer.core.checkpoint.write.save_archive", fail)
    with pytest.raises(RuntimeError, match="a slip"):
        write(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_beyond_the_field_is_one_file(tmp_path: Path) -> None:
    """Peak of a process of its own that writes some 100 MB."""
    code = """
import resource, sys, torch
from pathlib import Path
from tests.test_checkpoint_write import make, write

parameters = make()
parameters.appearance_planes[1] = torch.ones(1, 1600, 2000, 8)  # 77 of these 102 MB are not padding
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
write(make(), Path(sys.argv[1]) / "warm")
before = peak()
path = write(parameters, Path(sys.argv[1]))[0]
print((peak() - before) / path.stat().st_size)
"""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.2
