"""What `landmark-viewer inspect` tells of a block store."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint.inspect import header_entries, shown_bytes
from .store import Store


def store_entries(path: Path) -> list[tuple[str, str]]:
    """Returns label and text of every line, reading no block.

    Raises:
        InputError: The store cannot be opened.
    """
    store = Store.open(path.parent)
    index, model = store.index, store.model()
    form, blocks = index.form, index.blocks
    sides = ", ".join(f"{entry.side} ({shown_bytes(entry.file.n_bytes)})" for entry in index.coarse)
    columns, rows = index.division
    missing = index.n_blocks - len(blocks.numbers)
    sizes = ", ".join(f"{u} x {v} (line {w})" for u, v, w in form.sizes)
    precision = "half" if form.half else "full"
    embedding, nerf = model.embedding, model.nerf
    return [
        ("store", str(store.path)),
        ("kind", f"block store of {index.kind}, generation {index.generation}"),
        ("made from", index.source),
        ("blocks", f"{len(blocks.numbers)} of {columns} x {rows}" + f", {missing} missing" * bool(missing)),
        ("size", f"{shown_bytes(int(blocks.n_bytes.sum()))} in blocks, {precision} precision"),
        ("a block", f"{shown_bytes(form.n_bytes)} of planes and lines"),
        ("stand-ins", f"texels a side {sides}"),
        *header_entries(index.header, model.density_basis is not None),
        ("directions", str(len(form.density_channels))),
        ("levels", str(form.n_levels)),
        ("resolution", sizes),
        ("channels", f"density {list(form.density_channels)}, appearance {list(form.appearance_channels)}"),
        ("decoder", f"{index.header.hidden_dim} wide"),
        ("appearance", "none" if embedding is None else f"{len(embedding)} rows of {embedding.shape[1]}"),
        ("NeRF branch", "none" if nerf is None else f"{len(nerf.point_layers)} point layers"),
        ("alpha mask", "none" if index.mask is None else " x ".join(map(str, index.mask.n)) + " vertices"),
    ]
