"""Builds the host libraries with ninja into a cache, once per source, flags, compiler and processor level.

`python -m landmark_viewer.cuda.build` does it ahead of time; otherwise the first render does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import platformdirs

from . import abi

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).resolve().parent / "csrc"
LIBRARY = "liblv.so"
# Libraries and their sources. A window waits for the first one; what others share is compiled with it, once.
SHARED = ("shading", "lookup", "layers")
LIBRARIES = {
    "host": ("host", *SHARED),  # pictures of scenes without edits
    "warp": ("warp",),  # keyframes seen from elsewhere
    "probe": ("probe", *SHARED),  # single points, columns, colours
    "edited": ("edited", *SHARED),  # pictures of edited scenes
    "nerf": ("nerf", *SHARED),  # pictures with the NeRF branch
    "train": ("train", *SHARED),  # the training step
    "scalar": ("scalar",),  # what tests compare pictures with
}
AHEAD = ("host", "warp", "probe", "edited", "nerf")  # what a window needs sooner or later, in this order
CHECKSUM = "liblv.sha256"
COMPILERS = ("c++", "g++", "clang++")
# -O2: -O3 takes half as long again to compile, for 2 %. No -ffast-math, not even for linking: it would
# denormals in the whole process. -ffp-contract=off: fusing multiply and add moves samples across box faces.
FLAGS = [
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-fPIC",
    "-pthread",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-Wno-unknown-pragmas",
]
# Processor levels, best first, and what /proc/cpuinfo must list for them.
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c"}
LEVELS = {
    "x86-64-v4-bf16": {*_V4, "avx512_bf16"},
    "x86-64-v4": _V4,
    "x86-64-v3": {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm"},
}
BASELINE = "baseline"  # whatever the compiler takes for granted
LEVEL_FLAGS = {
    "x86-64-v4-bf16": ["-march=x86-64-v4", "-mavx512bf16"],
    "x86-64-v4": ["-march=x86-64-v4"],
    "x86-64-v3": ["-march=x86-64-v3"],
    BASELINE: [],
}


class BuildError(RuntimeError):
    """The library cannot be built; the message is one sentence that says why."""


def cpu_level(compiler: str | None = None) -> str:
    """Returns the best level that this processor has, and for which a compiler has words if one is given."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return BASELINE
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return BASELINE
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    flags = set(line.partition(":")[2].split())
    levels = (level for level, needed in LEVELS.items() if needed <= flags)
    return next((level for level in levels if compiler is None or _knows(compiler, level)), BASELINE)


@functools.cache
def _knows(compiler: str, level: str) -> bool:
    command = [compiler, *LEVEL_FLAGS[level], "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def cache_folder() -> Path:
    """Returns the folder of all builds: LANDMARK_VIEWER_CACHE or the user's cache folder."""
    override = os.environ.get("LANDMARK_VIEWER_CACHE")
    base = (
        Path(override) if override else Path(platformdirs.user_cache_dir("landmark-viewer", appauthor=False))
    )
    return base / "kernels"


def find_compiler() -> str:
    """Returns the path of a C++ compiler.

    Raises:
        BuildError: There is none.
    """
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise BuildError("no C++ compiler found (c++, g++ or clang++)")


def build(level: str | None = None, rebuild: bool = False, source: str = "host") -> Path:
    """Returns the path of a library for a processor level (default: this one's), compiling it if need be.

    Args:
        level: A key of LEVEL_FLAGS.
        rebuild: Compile even if there is a library.
        source: A key of LIBRARIES.

    Raises:
        BuildError: No compiler, no ninja, or the compiler failed.
    """
    if os.name != "posix":
        raise BuildError("the native kernels are built on Linux and macOS only")
    compiler = find_compiler()
    flags = [*FLAGS, *LEVEL_FLAGS[level or cpu_level(compiler)]]
    folder = cache_folder() / _key(compiler, flags, source)
    if not rebuild and _is_whole(folder, source):  # also in a cache that cannot be written
        return folder / LIBRARY
    objects = []  # that are there
    if source != "host" and set(SHARED) <= set(LIBRARIES[source]):
        objects = [build(level, rebuild).with_name(f"{name}.o") for name in SHARED]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if rebuild or not _is_whole(folder, source):
                _compile(_ninja_file(compiler, flags, source, objects), compiler, folder, source)
    except OSError as error:
        raise BuildError(
            f"the kernel cache {folder} must be a folder with room to write to, got: "
            f"{error.strerror or error}; set LANDMARK_VIEWER_CACHE to another folder"
        ) from error
    return folder / LIBRARY


def build_all(sources: Sequence[str]) -> None:
    """Builds libraries for this processor in this order, as many at a time as there are cores.

    Raises:
        BuildError: As of `build`.
    """
    left, errors = iter(sources), list[BuildError]()

    def work() -> None:
        try:
            for source in left:
                build(source=source)
        except BuildError as error:
            errors.append(error)

    n_threads = min(len(os.sched_getaffinity(0)), len(sources))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_threads)]  # daemons: one may quit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _key(compiler: str, flags: list[str], source: str) -> str:
    digest = hashlib.sha256()
    for path in (*sorted(SOURCES.glob("*.h")), *_paths(LIBRARIES[source])):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    target = (compiler, version.stdout, platform.machine(), *flags, str(abi.ABI))
    digest.update("\0".join(target).encode())
    return digest.hexdigest()


def _paths(units: Sequence[str]) -> list[Path]:
    return [SOURCES / f"{name}.cpp" for name in units]


def _products(source: str) -> list[str]:
    """What a build leaves in its folder."""
    return [LIBRARY, *(f"{name}.o" for name in SHARED if source == "host")]


def _is_whole(folder: Path, source: str) -> bool:
    """Whether a library is there and is what was built: a truncated one could crash the process at load."""
    try:
        return (folder / CHECKSUM).read_text(encoding="ascii").strip() == _checksum(folder, source)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(folder: Path, source: str) -> str:
    digest = hashlib.sha256()
    for name in _products(source):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _compile(ninja_file: str, compiler: str, folder: Path, source: str) -> None:
    logger.info("building the native kernels in %s", folder)
    for left in folder.glob("build-*"):  # of a process that ended on the way
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        work = Path(name)
        (work / "build.ninja").write_text(ninja_file, encoding="utf-8")
        run = subprocess.run([_ninja(), "-C", str(work)], capture_output=True, text=True, check=False)
        if run.returncode:
            raise BuildError(f"{compiler} failed: {_first_error(run.stdout + run.stderr)}")
        (work / CHECKSUM).write_text(_checksum(work, source) + "\n", encoding="ascii")
        for product in (*_products(source), CHECKSUM):
            os.replace(work / product, folder / product)


def _ninja_file(compiler: str, flags: list[str], source: str, objects: list[Path]) -> str:
    """Returns what ninja has to do: `objects` are there, all other units are compiled."""
    there = {path.stem for path in objects}
    units = [path for path in _paths(LIBRARIES[source]) if path.stem not in there]
    parts = [*(f"{path.stem}.o" for path in units), *map(str, objects)]
    return (
        "rule compile\n"
        f"  command = {_quoted(compiler)} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out\n"
        "  depfile = $out.d\n"
        "rule link\n"
        f"  command = {_quoted(compiler)} -shared -pthread $in -o $out\n"
        + "".join(f"build {path.stem}.o: compile {_escaped(str(path))}\n" for path in units)
        + f"build {LIBRARY}: link {' '.join(map(_escaped, parts))}\n"
    )


def _escaped(path: str) -> str:
    return path.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _quoted(command: str) -> str:
    return "'" + command.replace("$", "$$").replace("'", "'\\''") + "'"


def _ninja() -> str:
    try:
        import ninja
    except ImportError:
        ninja_path = shutil.which("ninja")
    else:
        ninja_path = str(Path(ninja.BIN_DIR) / "ninja")
    if ninja_path is None or not Path(ninja_path).exists():
        raise BuildError("ninja is not installed (pip install ninja)")
    return ninja_path


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the second one waits and then finds the library built."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def main() -> int:
    """Builds for this processor and says where, or why not."""
    try:
        build_all(tuple(LIBRARIES))
        for source in LIBRARIES:
            sys.stdout.write(f"native kernels ({cpu_level(find_compiler())}): {build(source=source)}\n")
    except BuildError as error:
        sys.stdout.write(f"no native kernels: {error}; torch will do their work, more slowly\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
