"""Reading torch.save files without torch.load: what is refused, what is mapped, what is bounded."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landmark_viewer.core.checkpoint.container import MAX_PICKLE, read_container
from landmark_viewer.core.checkpoint.unpickle import ByteArray, ConfigRecord
from landmark_viewer.core.errors import InputError

from . import synthetic


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_container(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def complaint(path: Path) -> str:
    """Opens a file that may be refused; returns the sentence, or nothing."""
    try:
        read_container(path)
    except InputError as error:
        return str(error)
    return ""


def pickled(tmp_path: Path, content: bytes) -> Path:
    return synthetic.save_pickle(tmp_path / "bad.th", content)


# What a file may hold


def test_tensors_and_records_come_back_as_torch_would_load_them(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, "merged-stack", embedding=3)
    with synthetic.landmark_classes():
        expected = torch.load(path, weights_only=False)
    root = read_container(path).root
    assert list(root["state_dict"]) == list(expected["state_dict"])
    for key, tensor in expected["state_dict"].items():
        torch.testing.assert_close(root["state_dict"][key], tensor, rtol=0, atol=0)
    assert isinstance(root["alphaMask.mask"], ByteArray)
    np.testing.assert_array_equal(root["alphaMask.mask"].values, expected["alphaMask.mask"])
    assert root["gridShape"] == {key: tuple(shape) for key, shape in expected["gridShape"].items()}
    records = root["kwargs"]["args"]["config_list"]
    assert all(isinstance(record, ConfigRecord) for record in records)
    stated = [vars(record) for record in expected["kwargs"]["args"]["config_list"]]
    assert [record.attributes for record in records] == stated


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_that_torch_offers_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.th"
    value = {"tensor": torch.arange(6.0).view(2, 3), "list": [1, 2.5, None, True, "x"], "big": 10**12}
    torch.save(value, path, pickle_protocol=protocol)
    root = read_container(path).root
    assert torch.equal(root.pop("tensor"), value.pop("tensor"))
    assert root == value


@pytest.mark.parametrize("location", ["cuda:3", "cuda:0", "mps"])
def test_storages_of_other_devices_arrive_on_the_cpu(tmp_path: Path, location: str) -> None:
    path = synthetic.write(tmp_path, location=location)
    assert location.encode() in synthetic.entries(path)["data.pkl"]
    assert all(tensor.device.type == "cpu" for tensor in read_container(path).root["state_dict"].values())


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_other_number_types_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "a.th"
    torch.save({"x": torch.arange(7).to(dtype)}, path)
    loaded = read_container(path).root["x"]
    assert loaded.dtype is dtype
    assert torch.equal(loaded, torch.arange(7).to(dtype))


def test_views_share_their_storage_with_offsets_and_strides(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    views = {"whole": base, "part": base[5:11], "turned": base.view(4, 6).t(), "steps": base[1::3]}
    path = tmp_path / "a.th"
    torch.save(views, path)
    root = read_container(path).root
    for key, view in views.items():
        assert torch.equal(root[key], view)


def test_the_older_name_of_numpy_is_read(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path)
    names = b"numpy._core.multiarray", b"numpy.core.multiarray"
    synthetic.rewrite(path, lambda e: e.update({"data.pkl": e["data.pkl"].replace(*names)}))
    assert names[1] in synthetic.entries(path)["data.pkl"]
    assert isinstance(read_container(path).root["alphaMask.mask"], ByteArray)


def test_unaligned_storages_are_read(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path)
    with synthetic.landmark_classes():
        expected = torch.load(path, weights_only=False)["state_dict"]
    synthetic.rewrite(path, lambda entries: None)  # the zipfile module does not align
    for key, tensor in read_container(path).root["state_dict"].items():
        assert torch.equal(tensor, expected[key])


# Mapping


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensors_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, grid=(64, 64, 8))
    address = read_container(path).root["state_dict"]["density_plane.0"]
    lines = [
        line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))
    ]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    assert any(low <= address.data_ptr() < high for low, high in ranges)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_reads_little_and_release_gives_pages_back(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    torch.save({"x": torch.ones(8_000_000)}, path)
    before = resident_file_bytes()
    container = read_container(path)
    assert resident_file_bytes() - before < 16e6  # pages come in groups of up to 2 MiB
    assert container.root["x"].sum() == 8_000_000
    assert resident_file_bytes() - before > 30e6
    container.release()
    assert resident_file_bytes() - before < 8e6
    assert container.root["x"][-1] == 1


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssFile"))


# Code that wants to run


class Trap:
    """Unpickles by calling `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class StateTrap:
    """Passes a trap as the state of an allowed class."""

    def __init__(self, trap: Trap) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return OrderedDict, (), {"__setstate__": self.trap}


def traps(witness: Path) -> dict[str, Any]:
    trap = Trap(os.system, f"touch {witness}")
    return {
        "plain": trap,
        "in a dict": {"kwargs": {"aabb": trap}},
        "in a list": {"kwargs": [1, [2, [trap]]]},
        "as an argument": Trap(OrderedDict, [("a", trap)]),
        "as a state": {"state_dict": StateTrap(trap)},
        "in a numpy array": {"alphaMask.mask": np.array([trap, trap], dtype=object)},
        "eval": Trap(eval, f"open({str(witness)!r}, 'w')"),
        "exec": Trap(exec, f"open({str(witness)!r}, 'w')"),
        "getattr": Trap(getattr, Trap(__import__, "os"), "system"),
    }


NAMES = {"eval": ("builtins.eval", "__builtin__.eval"), "exec": ("builtins.exec", "__builtin__.exec")}
NAMES["getattr"] = ("builtins.getattr", "__builtin__.getattr")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", list(traps(Path("x"))))
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path: Path, kind: str, protocol: int) -> None:
    witness = tmp_path / "witness"
    path = pickled(tmp_path, pickle.dumps(traps(witness)[kind], protocol))
    message = refusal(path)
    assert not witness.exists()
    if kind == "in a numpy array":
        assert "asks for " in message or "numpy array" in message
    else:
        wanted = next((name for name in NAMES.get(kind, ("posix.system",)) if name in message), None)
        assert message == (
            f"must hold nothing but LandMark's data, but its pickle asks for {wanted}; "
            "nothing of it was run and the file is refused"
        )


def test_an_object_array_is_refused_before_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    torch.save({"alphaMask.mask": np.array([1, "a"], dtype=object)}, path)
    assert refusal(path) == (
        "must hold nothing but LandMark's data, but it holds a numpy array that is not of unsigned bytes; "
        "nothing of it was run and the file is refused"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"cos\nsystem\n(S'touch x'\ntR.",
        b"cbuiltins\nexec\n.",
        b"\x80\x02capp.tools.configs\nPrintableConfig\ncos\nsystem\nb.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor\n.",
        b"\x80\x02ccollections\nOrderedDict.__init__\n.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02c_codecs\ndecode\n.",
    ],
)
def test_every_name_off_the_list_is_refused(tmp_path: Path, content: bytes) -> None:
    message = refusal(pickled(tmp_path, content))
    assert message.startswith("must hold nothing but LandMark's data, but its pickle asks for ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00K\x01\x85K\x01\x85tR.",
        b"\x80\x02ctorch\nSize\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00rot_13\x86R.",
        b"\x80\x02ccollections\nOrderedDict\n}b.",  # would set attributes of the class itself
        b"\x80\x02capp.tools.configs\nPrintableConfig\nK\x01\x85\x81.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x02X\x07\x00\x00\x00storageQ.",
        b"\x80\x02K\x01b.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02h\x05.",
        b"\x80\x02.",
        b"\x80\x02t.",
    ],
)
def test_misuse_of_the_allowed_names_is_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    message = refusal(pickled(tmp_path, content))
    assert message.startswith("data.pkl must be a pickle as torch.save writes it, but its ")
    assert message.endswith(" instruction cannot be carried out; the file is damaged, so copy it again")


# Sizes that would exhaust the memory


def tensor_pickle(count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """Pickles one float tensor over storage 0 with any numbers."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    numbers = [
        pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"") for value in (count, offset, shape, stride)
    ]
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + numbers[0]
        + b"tQ"
        + b"".join(numbers[1:])
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )


def tensor_file(tmp_path: Path, n_bytes: int, *arguments: Any, **more: Any) -> Path:
    path = pickled(tmp_path, tensor_pickle(*arguments, **more))
    return synthetic.rewrite(path, lambda entries: entries.update({"data/0": bytes(n_bytes)}))


def test_the_hand_made_tensor_is_read(tmp_path: Path) -> None:
    assert read_container(tensor_file(tmp_path, 24, 6, (2, 3), (3, 1))).root.shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((6, (2**50,), (1,)), "it holds a tensor of shape [1125899906842624] in a storage of 6 numbers"),
        ((6, (2**50,), (0,)), "it holds a tensor of shape [1125899906842624] in a storage of 6 numbers"),
        ((6, (2, 3), (2**40, 1)), "it holds a tensor of shape [2, 3] in a storage of 6 numbers"),
        ((6, (2, 3), (3, 1), 1), "it holds a tensor of shape [2, 3] in a storage of 6 numbers"),
        (
            (6, (2**40, 2**40), (1, 1)),
            "it holds a tensor of the absurd shape [1099511627776, 1099511627776]",
        ),
        (
            (6, (0, 2**40, 2**40), (1, 1, 1)),
            "it holds a tensor of the absurd shape [0, 1099511627776, 1099511627776]",
        ),
        ((6, (1,) * 9, (1,) * 9), "it holds a tensor of the absurd shape [1, 1, 1, 1, 1, 1, ...]"),
    ],
)
def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path, arguments: Any, reason: str) -> None:
    assert refusal(tensor_file(tmp_path, 24, *arguments)) == (
        f"must hold nothing but LandMark's data, but {reason}; nothing of it was run and the file is refused"
    )


def test_a_storage_larger_than_its_entry_is_refused(tmp_path: Path) -> None:
    assert refusal(tensor_file(tmp_path, 24, 2**50, (2**50,), (1,))) == (
        "data/0 must hold 4503599627370496 bytes, got 24; the file is damaged or absurd"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # memo index
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fa.",  # text length
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x80\x02\x8b\xff\xff\xff\x7fa.",  # integer length
        b"I" + b"9" * 100_000 + b"\n.",
        b"(" * 50_000 + b".",
        b"\x80\x02]" + b"]a" * 30_000 + b".",
        b"\x80\x02" + b"K\x01" + b"\x85" * 30_000 + b".",  # nested tuples
        b"\x80\x02K\x01" + b"q\x00h\x00\x86" * 200 + b".",  # each holds the one before twice
        b"\x80\x02}K\x01"
        + b"q\x00h\x00\x86" * 60
        + b"K\x01s.",  # such a tuple as a key would be hashed for ever
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
    ],
)
def test_pickles_that_grow_are_bounded(tmp_path: Path, content: bytes) -> None:
    path = pickled(tmp_path, content)
    tracemalloc.start()
    message = complaint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(message) < 500
    assert peak < 200e6


def test_text_may_not_be_turned_into_bytes_for_ever(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra"
    path = pickled(tmp_path, b"\x80\x02" + text + b"0]" + again * 200 + b".")
    assert "its pickle unfolds to more than 134217728 bytes" in refusal(path)


def test_too_many_instructions_are_refused(tmp_path: Path) -> None:
    message = refusal(pickled(tmp_path, b"\x80\x02" + b"]0" * 600_000 + b"N."))
    assert "its pickle has more than 1000000 instructions" in message


def test_a_huge_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = pickled(tmp_path, b"\x80\x02" + bytes(MAX_PICKLE) + b".")
    assert refusal(path) == (
        f"data.pkl must be below {MAX_PICKLE} bytes, got {MAX_PICKLE + 3}; the file is refused"
    )


def test_a_packed_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = synthetic.rewrite(synthetic.write(tmp_path), lambda entries: None, zipfile.ZIP_DEFLATED)
    assert refusal(path) == "entries must be stored as torch.save does it, but 'city/data.pkl' is packed"


# Files that are no checkpoints


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.th") == "no such file; check the path"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "must be a checkpoint file, but is none"


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "must be a checkpoint file, but is none"


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.th").touch()
    assert refusal(tmp_path / "a.th") == "must be a checkpoint file, but is empty; copy it again"


def test_another_kind_of_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.th").write_text("hello")
    assert (
        refusal(tmp_path / "a.th") == "must be a zip file written by torch.save, but is another kind of file"
    )


def test_the_older_format_of_torch_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert refusal(path) == (
        "must be a zip file as torch >= 1.6 saves it, but is in torch's older format; "
        "load it with torch.load and write it again with torch.save"
    )


@pytest.mark.parametrize("kept", [5, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, kept: float) -> None:
    path = synthetic.write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    assert refusal(path) == (
        "must be a complete zip file, but its end is missing; it is truncated or damaged, so copy it again"
    )


def test_a_zip_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert (
        refusal(path) == "must be a zip file written by torch.save with one data.pkl, but holds 'readme.txt'"
    )


def test_a_missing_storage_is_named(tmp_path: Path) -> None:
    path = synthetic.rewrite(synthetic.write(tmp_path), lambda entries: entries.pop("data/3"))
    assert refusal(path) == (
        "must be a complete zip file, but 'data/3' is missing; it is truncated or damaged, so copy it again"
    )


def test_a_shortened_storage_is_named(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path)
    synthetic.rewrite(path, lambda entries: entries.update({"data/1": entries["data/1"][:40]}))
    assert refusal(path) == "data/1 must hold 1536 bytes, got 40; the file is damaged or absurd"


def test_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    path = synthetic.rewrite(synthetic.write(tmp_path), lambda entries: entries.update({"byteorder": b"big"}))
    assert refusal(path) == ("numbers must be stored little-endian; save it again on a little-endian machine")


# Damage of every kind

VALID = io.BytesIO()
torch.save({"kwargs": {"aabb": torch.ones(2, 3), "gridSize": [4, 4, 4]}, "x": np.zeros(5, np.uint8)}, VALID)
CODES = [ord(opcode.code) for opcode in pickletools.opcodes]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 10_000), st.one_of(st.integers(0, 255), st.sampled_from(CODES)), st.booleans()
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_damaged_file_opens_or_is_refused_in_one_sentence(
    tmp_path: Path, edits: list[tuple[int, int, bool]]
) -> None:
    content = bytearray(VALID.getvalue())
    for position, value, insert in edits:
        at = position % len(content)
        content[at : at + (not insert)] = bytes([value])
    path = tmp_path / "a.th"
    path.write_bytes(content)
    message = complaint(path)
    assert "\n" not in message
    assert len(message) < 500
