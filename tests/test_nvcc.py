"""The GPU kernel compiles from the headers that the host runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from landmark_viewer.cuda.build import SOURCES

ARCHITECTURES = (75, 80, 86, 89, 90)
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@needs_nvcc
def test_kernel_compiles_for_every_architecture_without_spills(tmp_path: Path) -> None:
    targets = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in ARCHITECTURES]
    command = ["nvcc", "-fatbin", "-std=c++17", "-O3", "-Xptxas", "-v", *targets]
    run = subprocess.run(
        [*command, "-o", str(tmp_path / "render.fatbin"), str(SOURCES / "render.cu")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    compiled = re.findall(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", run.stderr)
    spilled = re.findall(r"(\d+) bytes spill stores", run.stderr)
    assert sorted((name, int(n)) for name, n in compiled) == [
        (name, n) for name in ("lv_render", "lv_render_edited") for n in ARCHITECTURES
    ]
    assert [int(n) for n in spilled] == [0] * len(compiled)
    assert (tmp_path / "render.fatbin").stat().st_size > 10_000


PROBE = """
#include "edits.h"
#include "compositing.h"
__global__ void probe(LvField field, LvView view, LvOptions options, Ray ray, float* out) {
  float d[3], o[3], c[3];
  ray_through(view, threadIdx.x, threadIdx.y, o, d);
  float t = box_distance(ray, options.step, out[0]) + hull_distance(ray, out[1]);
  for (int i = 0; i < 3; i++) {
    float p = sample_position(ray, i, t);
    c[i] = normalized(field, i, p);
    out[10 + i] = mask_coordinate(field.mask, i, p) + d[i] + o[i];
  }
  out[2] = to_block(field, c);
  for (int i = 0; i < 3; i++) out[3 + i] = c[i];
  out[6] = sample_length(options, t, out[7]);
  Owner owner = owner_at(*options.edits, d);
  out[8] = edit_counts(field, options, owner);
  turn_direction(options.edits->ops[owner.op], owner.q, out + 20);
}
"""


@needs_nvcc
def test_what_decides_where_a_sample_lies_is_never_fused(tmp_path: Path) -> None:
    source, ptx = tmp_path / "probe.cu", tmp_path / "probe.ptx"
    source.write_text(PROBE, encoding="utf-8")
    command = ["nvcc", "-ptx", "-std=c++17", "-O3", "-arch=compute_80", f"-I{SOURCES}"]
    run = subprocess.run([*command, "-o", str(ptx), str(source)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    code = ptx.read_text(encoding="utf-8")
    assert "mul.rn.f32" in code
    assert "fma." not in code
