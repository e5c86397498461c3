"""Building, caching and loading the host library."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core import kernels
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import build, native, ops
from landmark_viewer.cuda.loading import Loader
from landmark_viewer.cuda.tables import FrameBuffers, Quality, RenderControl

from .small_fields import SHAPES, camera, make_field

TINY_SOURCE = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'


@pytest.fixture
def compiler() -> str:
    try:
        return build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> Path:
    """Sources that compile in no time, and an empty cache."""
    sources = tmp_path / "csrc"
    sources.mkdir()
    for name in {name for names in build.LIBRARIES.values() for name in names}:
        (sources / f"{name}.cpp").write_text(TINY_SOURCE.replace("answer", name))
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("LANDMARK_VIEWER_CACHE", str(tmp_path / "cache"))
    return sources


@pytest.fixture
def fresh_ops(monkeypatch: pytest.MonkeyPatch) -> Loader[native.Library]:
    """The door as in a process that has not rendered yet."""
    holder = Loader("host", native.Library, "rendering")
    monkeypatch.setattr(ops, "_native", holder)
    return holder


def test_a_second_build_compiles_nothing(tiny: Path) -> None:
    first = build.build()
    stamp = first.stat().st_mtime_ns
    assert build.build() == first
    assert first.stat().st_mtime_ns == stamp
    assert first.is_relative_to(tiny.parent / "cache" / "kernels")


def test_source_level_and_compiler_decide_the_place(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {build.build(build.BASELINE)}
    if build.cpu_level() != build.BASELINE:
        places.add(build.build("x86-64-v3"))
    (tiny / "extra.h").write_text("// more\n")
    places.add(build.build(build.BASELINE))
    monkeypatch.setattr(build.abi, "ABI", 999)
    places.add(build.build(build.BASELINE))
    assert len(places) == (4 if build.cpu_level() != build.BASELINE else 3)


@pytest.mark.parametrize("damage", ["truncated", "replaced", "checksum gone", "object gone"])
def test_a_broken_entry_is_rebuilt(tiny: Path, damage: str) -> None:
    library = build.build()
    content = library.read_bytes()
    if damage == "truncated":
        library.write_bytes(content[: len(content) // 2])
    elif damage == "replaced":
        library.write_bytes(b"not a library")
    else:
        library.with_name("layers.o" if damage == "object gone" else build.CHECKSUM).unlink()
    assert build.build(source="probe").is_file()  # it shares objects with what is broken
    assert build.build().read_bytes()[:4] == content[:4]
    assert build._is_whole(library.parent, "host")
    assert len(library.read_bytes()) == len(content)


def test_nothing_is_left_beside_the_library_but_what_others_share(tiny: Path) -> None:
    for source, shared in (("host", {f"{name}.o" for name in build.SHARED}), ("probe", set())):
        left = {path.name for path in build.build(source=source).parent.iterdir()}
        assert left == {"liblv.sha256", "liblv.so", "lock", *shared}


def test_what_libraries_share_is_compiled_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    ninja_file = build._ninja_file

    def watched(*given: Any) -> str:
        compiled.extend(re.findall(r"^build (\w+)\.o", text := ninja_file(*given), re.MULTILINE))
        return text

    monkeypatch.setattr(build, "_ninja_file", watched)
    build.build_all(tuple(build.LIBRARIES))
    assert sorted(compiled) == sorted(path.stem for path in tiny.glob("*.cpp"))
    shared = ctypes.CDLL(str(build.build(source="nerf")))
    assert [getattr(shared, name)() for name in ("nerf", *build.SHARED)] == [42] * 4


def test_two_processes_build_once_without_harm(tiny: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from landmark_viewer.cuda import build;"
        "build.SOURCES = Path(sys.argv[1]); build.build_all(tuple(build.LIBRARIES)); print(build.build())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tiny)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(answers) == 1
    assert build._is_whole(Path(answers.pop().strip()).parent, "host")


def test_a_process_that_is_killed_while_it_compiles_leaves_no_lock(tiny: Path, compiler: str) -> None:
    """Another process takes over, and what was half done is not taken for a library."""
    code = (
        "import sys; from pathlib import Path; from landmark_viewer.cuda import build;"
        "build.SOURCES = Path(sys.argv[1]); build._checksum = lambda *_: print('compiled', flush=True) or"
        " sys.stdin.read(); build.build()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiled\n"
        process.kill()
    (left,) = (tiny.parent / "cache" / "kernels").glob("*/build-*")
    library = build.build()
    assert library.parent == left.parent
    assert not left.exists()
    assert build._is_whole(library.parent, "host")


def test_no_compiler_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, fresh_ops: Loader[native.Library]
) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    status = ops.backend_status()
    assert status == ops.BackendStatus("torch", "no C++ compiler found (c++, g++ or clang++)")


def test_a_compile_error_is_said_with_its_first_line(tiny: Path, fresh_ops: Loader[native.Library]) -> None:
    (tiny / "host.cpp").write_text("int broken(\n")
    status = ops.backend_status()
    assert status.name == "torch"
    assert "failed: " in status.detail
    assert "error" in status.detail
    assert "\n" not in status.detail


def test_an_unusable_cache_is_said(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, fresh_ops: Loader[native.Library]
) -> None:
    blocked = tiny.parent / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("LANDMARK_VIEWER_CACHE", str(blocked))
    status = ops.backend_status()
    assert status.name == "torch"
    assert status.detail.startswith(f"the kernel cache {blocked}")
    assert status.detail.endswith("Not a directory; set LANDMARK_VIEWER_CACHE to another folder")


def test_a_cache_that_cannot_be_written_serves_what_is_in_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, fresh_ops: Loader[native.Library]
) -> None:
    library = build.build()

    @contextlib.contextmanager
    def locked(path: Path) -> Iterator[None]:
        raise PermissionError(errno.EACCES, "Permission denied")
        yield

    monkeypatch.setattr(build, "_locked", locked)
    assert build.build() == library
    (tiny / "extra.h").write_text("// more\n")
    assert "got: Permission denied; set LANDMARK_VIEWER_CACHE" in ops.backend_status().detail


def test_a_full_disk_is_said_and_leaves_nothing(tiny: Path, fresh_ops: Loader[native.Library]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    action = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, here and in the compiler
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        status = ops.backend_status()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, action)
    assert status.name == "torch"
    assert "File too large" in status.detail
    assert "\n" not in status.detail
    assert not list((tiny.parent / "cache" / "kernels").glob("*/build-*"))
    assert build.build().is_file()


def test_a_library_with_other_entry_points_is_not_used(tiny: Path, fresh_ops: Loader[native.Library]) -> None:
    status = ops.backend_status()
    assert status.name == "torch"
    assert status.detail.startswith("the native kernels cannot be loaded: ")


def test_the_environment_switches_the_native_code_off(
    monkeypatch: pytest.MonkeyPatch, fresh_ops: Loader[native.Library]
) -> None:
    monkeypatch.setenv("LANDMARK_VIEWER_NATIVE", "0")
    reason = "LANDMARK_VIEWER_NATIVE=0 switches the native kernels off"
    assert ops.backend_status() == ops.BackendStatus("torch", reason)
    model = make_field(SHAPES["plain"])
    options, view = options_for(model, RenderSettings()), view_of(camera(8, 8))
    tables, buffers = model.tables(Precision.FULL), FrameBuffers.empty(8, 8)
    assert ops.render(tables, view, options, buffers)
    with pytest.raises(RuntimeError, match="the native kernels were asked for, but LANDMARK_VIEWER_NATIVE=0"):
        ops.render(tables, view, options, buffers, backend="native")


@pytest.mark.parametrize("level", [build.BASELINE, *build.LEVELS])
def test_every_processor_level_renders_the_same_picture(level: str, compiler: str) -> None:
    if level != build.BASELINE and level not in _levels_here():
        pytest.skip(f"this processor is not {level}")
    library = native.Library(build.build(level), level)
    for name in ("channels of the real ones", "softplus", "sparse mask"):
        model = make_field(SHAPES[name])
        for precision in (Precision.FULL, Precision.HALF):
            for quality in Quality:
                options = options_for(model, RenderSettings(quality=quality))
                view, tables = view_of(camera(33, 20)), model.tables(precision)
                got, wanted = FrameBuffers.empty(33, 20), FrameBuffers.empty(33, 20)
                assert library.render(tables, view, options, got, RenderControl(33, 20))
                assert ops.render(tables, view, options, wanted)
                beyond = ((got.rgb - wanted.rgb).abs() > 2e-5).float().mean()
                assert beyond < (2e-3 if quality is Quality.EXACT else 2e-2)


def test_loading_the_library_keeps_denormals(compiler: str) -> None:
    """A library linked with -ffast-math would flush them to 0 in the whole process."""
    ops.backend_status()
    assert np.float32(1e-38) * np.float32(0.01) > 0
    assert (torch.tensor(1e-38) * 0.01).item() > 0


def test_every_source_is_in_a_library() -> None:
    there = {path.stem for path in build.SOURCES.glob("*.cpp")}
    assert there == {name for names in build.LIBRARIES.values() for name in names}
    assert set(native.PARTS) | {"host", "train"} == set(build.LIBRARIES)


def test_a_part_alone_is_built_again_where_its_source_changes(tiny: Path) -> None:
    places = {source: build.build(source=source) for source in build.LIBRARIES}
    assert len(set(places.values())) == len(places)
    (tiny / "nerf.cpp").write_text(TINY_SOURCE)
    again = {source: build.build(source=source) for source in build.LIBRARIES}
    assert {source for source in places if again[source] != places[source]} == {"nerf"}


def test_what_an_unfinished_build_left_is_removed(tiny: Path) -> None:
    library = build.build()
    left = library.parent / "build-left"
    left.mkdir()
    (left / "host.o").write_bytes(b"half of it")
    build.build(rebuild=True)
    assert not left.exists()


def test_building_ahead_ends_with_all_that_a_window_needs(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_ahead", None)
    assert not kernels.is_building()
    go = threading.Event()
    compile_it = build._compile
    monkeypatch.setattr(build, "_compile", lambda *given: (go.wait(60), compile_it(*given)))
    thread = kernels.build_ahead()
    assert kernels.is_building()
    go.set()
    thread.join(120)
    assert not kernels.is_building()
    monkeypatch.setattr(build, "_compile", lambda *given: pytest.fail("there is something left to compile"))
    assert {build.build(source=source).name for source in build.AHEAD} == {build.LIBRARY}


def test_what_the_first_picture_needs_is_compiled_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    is_said = threading.Event()

    def build_it(source: str = "host") -> None:
        assert is_said.wait(60)
        built.append(source)

    monkeypatch.setattr(kernels, "_ahead", None)
    monkeypatch.setattr(build, "build", build_it)
    thread = kernels.build_ahead()
    kernels.compile_next(kernels.EDITED)
    is_said.set()
    thread.join(60)
    assert built[0] == "host"
    assert set(built[1:3]) == set(kernels.EDITED)
    assert set(built[3:]) == set(build.AHEAD)


def test_without_a_part_the_others_serve(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    """Where the part for probes is not to be had, torch does its work; pictures stay native."""
    library = native.Library(build.build())
    monkeypatch.setattr(library._parts["probe"], "_found", "it went wrong")
    monkeypatch.setattr(ops._native, "_found", library)
    model = make_field(SHAPES["plain"])
    tables, points = model.tables(Precision.FULL), torch.zeros(3, 3)
    assert ops.can_render_rays(tables, options_for(model, RenderSettings()))
    assert torch.equal(ops.probe(tables, points).sigma, ops.probe(tables, points, backend="torch").sigma)
    with pytest.raises(RuntimeError, match="it went wrong"):
        ops.probe(tables, points, backend="native")


def test_main_names_the_libraries_or_the_reason(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(build.LIBRARIES)
    assert all(line.endswith("liblv.so") for line in lines)
    (tiny / "host.cpp").write_text("int broken(\n")
    assert build.main() == 0
    assert capsys.readouterr().out.startswith("no native kernels: ")


def _levels_here() -> list[str]:
    best = build.cpu_level()
    levels = list(build.LEVELS)
    return levels[levels.index(best) :] if best in levels else []
