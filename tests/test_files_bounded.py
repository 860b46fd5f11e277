"""Files cannot hang or fill the reader: bounded work, checksums, digests, ranges; and others' files are named."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import rife
from rife.checkpoint import pickle_audit
from rife.checkpoint.download import _content_range, _number
from rife.checkpoint.load import load_network
from rife.checkpoint.safetensors_file import DIGEST, serialised
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet

# A storage of floats, up to its length.
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
CONFIG = replace(RELEASES["4.25"], channels=(16,) * 5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return IFNet(CONFIG)


@pytest.fixture
def saved(network, tmp_path):
    return rife.save_checkpoint(network, tmp_path / "a.safetensors")


def refused(path, data: bytes, said: str) -> None:
    path.write_bytes(data)
    with pytest.raises(rife.UnknownCheckpointError, match=said):
        load_network(path)


def in_zip(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    return buffer.getvalue()


# pickles


def test_what_released_files_have_is_all_that_is_read():
    plain = {opcode.name for opcode in pickle_audit._OPCODES.values() if opcode.plain}
    assert len(plain) < 33 and not plain & {
        "STACK_GLOBAL",
        "NEWOBJ",
        "INST",
        "OBJ",
        "LONG4",
        "LONG",
        "EMPTY_SET",
    }


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_other_protocols_than_pytorchs_are_refused(tmp_path, protocol):
    data = pickle.dumps({"block0.conv0.1.0.weight": [1, 2.5, "x"]}, protocol=protocol)
    refused(tmp_path / "a.pth", in_zip(data), "pickle opcode|never|damaged")


@pytest.mark.parametrize(
    "body, said",
    [
        (b"}(" + b"K\x01" * 2 + b"t" + b"K\x01s", "neither texts nor numbers"),
        (b"}]K\x01s", "neither texts nor numbers"),
        (b"]" + b"]a" * 3 + b")K\x01s", "no dictionary|damaged|neither"),
        (b"ccollections\nOrderedDict\n(K\x01K\x02K\x03tR", "odd arguments"),
        (b"ctorch\nSize\n((K\x01ttR", "odd arguments|damaged"),
        (b"X\x01\x00\x00\x00a)R", "calls what is no function"),
        (STORAGE + b"J\xff\xff\xff\xfftQ", "cannot be"),
        (b"\x8a\xff" + b"\x7f" * 255 + b"K\x01\x85", "is a int|holds a|damaged|tuple"),
        (b"(" * 50 + b"t" * 60, "plain weights"),
        (b"h\x05", "plain weights"),
        (b"0", "pickle opcode POP"),
        (b"\x8b\xff\xff\xff\xff", "pickle opcode 0x8b"),
        (b"X\xff\xff\xff\x7f", "longer than any name"),
        (b"c" + b"a" * 200_000, "does not end"),
    ],
)  # fmt: skip
def test_odd_pickles_are_refused_before_pytorch_sees_them(tmp_path, body, said):
    refused(tmp_path / "a.pth", in_zip(b"\x80\x02" + body + b"."), said)


@pytest.mark.parametrize("kind", ["pickle", "safetensors", "zip", "sides"])
def test_refusals_are_short_whatever_names_a_file_has(tmp_path, kind):
    """Found by fuzzing: a damaged pickle's "name" went on for 6,000 bytes, and the message with it."""
    path = tmp_path / "a.pth"
    if kind == "pickle":
        path.write_bytes(in_zip(b"\x80\x02c" + b"m" * 20_000 + b"\n" + b"n" * 20_000 + b"\nR."))
    elif kind == "safetensors":
        save_file({"block0.conv0.1.0." + "w" * 20_000: torch.zeros(1)}, path)
    elif kind == "sides":
        save_file({"block0.conv0.1.0.weight": torch.zeros([1] * 30)}, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a" * 20_000, b"")
    with pytest.raises(rife.UnknownCheckpointError) as refusal:
        load_network(path)
    assert len(str(refusal.value)) < 600 + len(str(path))


def test_sides_are_bounded_before_they_are_multiplied(tmp_path):
    storage = STORAGE + b"K\x04tQ"
    side = b"\x8a\x09" + b"\xff" * 8 + b"\x00"  # 2^64 - 1
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00("
        + side * 3
        + b"t(K\x01K\x01K\x01t\x89}tR"
    )
    refused(tmp_path / "a.pth", in_zip(b"\x80\x02" + tensor + b"."), "impossible size")
    side = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"  # 2^63 - 1
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00("
        + side * 3
        + b"t(K\x01K\x01K\x01t\x89}tR"
    )
    refused(tmp_path / "a.pth", in_zip(b"\x80\x02" + tensor + b"."), "fill the memory")


@pytest.mark.parametrize("unit", [b"N", b"]", b"K\x01\x85", b"q\x00h\x00", b"]q\x00h\x00a"])
def test_time_grows_with_the_length_only(unit):
    """Four times the opcodes take about four times the time, for containers of containers as for single ones."""
    seconds = []
    for count in (20_000, 80_000):
        data = b"\x80\x02N" + unit * count + b"."
        spent = []
        for _ in range(3):  # the least of three: other work on the machine makes single ones long
            begin = time.process_time()
            assert pickle_audit._claims(data) == {}
            spent.append(time.process_time() - begin)
        seconds.append(min(spent))
    assert seconds[1] < 20 * max(seconds[0], 0.01) and seconds[1] < 5


def test_the_number_of_opcodes_is_bounded(tmp_path):
    refused(tmp_path / "a.pth", in_zip(b"\x80\x02" + b"N" * 500_000 + b"."), "another kind of model")


# bytes that changed


def test_every_flipped_bit_of_a_zip_is_noticed_or_changes_nothing(network, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(network.state_dict(), path)
    data, wanted = path.read_bytes(), network.state_dict()
    noticed = 0
    for k in range(60):
        at = (k * 7919 + 13) * len(data) // (60 * 7919)
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << k % 8)]) + data[at + 1 :])
        try:
            found = load_network(path).state_dict()
        except rife.UnknownCheckpointError:
            noticed += 1
        else:
            assert all(torch.equal(found[key], value) for key, value in wanted.items()), at
    assert noticed > 40


def test_files_saved_here_carry_a_digest_that_loading_looks_at(saved):
    data = bytearray(saved.read_bytes())
    data[-1000] ^= 4
    refused(saved, bytes(data), "weights are not those that were saved")


def test_a_digest_that_another_program_left_behind_can_be_taken_out(saved, network):
    tensors = {key: value.half() for key, value in load_file(saved).items()}
    config = json.dumps({"network": "ifnet", **network.config.to_dict()})
    save_file(tensors, saved, {"rife_config": config, DIGEST: "0" * 64})
    with pytest.raises(rife.UnknownCheckpointError, match=DIGEST):
        load_network(saved)
    save_file(tensors, saved, {"rife_config": config})
    assert load_network(saved).config == network.config


def test_the_same_content_is_the_same_bytes(network, tmp_path):
    notes = {f"note {i}": str(i) for i in range(8)}
    first, second = (
        rife.save_checkpoint(network, tmp_path / n, notes=notes).read_bytes() for n in ("a", "b")
    )
    assert first == second
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.float16), "c": torch.tensor(2)}
    (tmp_path / "c.safetensors").write_bytes(serialised(tensors, {"z": "1", "a": "\u00fc"}))
    again = load_file(tmp_path / "c.safetensors")
    assert again.keys() == tensors.keys() and all(torch.equal(again[k], v) for k, v in tensors.items())


# metadata


@pytest.mark.parametrize(
    "field, value",
    [
        ("mask_add", True), ("mask_add", 1), ("still_radius", -1), ("still_radius", 10**30), ("still_radius", 1e30),
        ("timestep", False), ("raw_inputs", True), ("zero_init", True), ("act", "prelu"), ("trunk_skip", True),
        ("pad", 2**63), ("pad", 1), ("pad", 0), ("pad", -32), ("scales", [1, 2, 4, 8, 16]), ("scales", [2**62] * 5),
        ("scales", []), ("channels", [2**62] * 5), ("channels", [16] * 4), ("head_channels", 2**63), ("groups", 0),
        ("tail_channels", 13.0), ("stem_stride", 3), ("ensemble", "optional"), ("ensemble", "always"),
        ("adaptive", "v40"), ("adaptive", "v38"), ("sampling", "nearest"), ("stem_padding", "reflect"),
        ("family", "x" * 10_000), ("family", None), ("refine", "other"), ("no_such_field", 1),
    ],
)  # fmt: skip
def test_metadata_out_of_range_is_refused_at_once(saved, network, field, value):
    values = {"network": "ifnet", **network.config.to_dict(), field: value}
    save_file(load_file(saved), saved, {"rife_config": json.dumps(values)})
    with pytest.raises(rife.UnknownCheckpointError, match="metadata"):
        load_network(saved)


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "[" * 5000, "{" + '"a":1,' * 20_000, '{"pad":' + "9" * 5000 + "}"]
)
def test_metadata_that_is_no_configuration_is_refused(saved, text):
    save_file(load_file(saved), saved, {"rife_config": text})
    with pytest.raises(rife.UnknownCheckpointError, match="metadata"):
        load_network(saved)


@pytest.mark.parametrize("name", RELEASES)
def test_the_metadata_of_every_release_is_taken(name, tmp_path):
    narrow = replace(RELEASES[name], channels=tuple(max(8, c // 16 * 2) for c in RELEASES[name].channels))
    path = rife.save_checkpoint(IFNet(narrow), tmp_path / "a.safetensors")
    assert load_network(path).config == narrow


def test_a_safetensors_header_of_many_megabytes_is_not_parsed(tmp_path):
    refused(
        tmp_path / "a.safetensors", struct.pack("<Q", 50_000_000) + b"{" + b" " * 600, "another kind of model"
    )


# downloads


@pytest.mark.parametrize("text", ["\u00b2", "\u0663", "9" * 16, "-1", "1.5", "1e9", "", "0x10", "1_000"])
def test_sizes_are_ascii_digits_of_a_bounded_length(text):
    assert _number(text) is None


def test_a_range_that_is_none_is_none():
    class Response:
        headers = {"Content-Range": "bytes \u0661-5/\u0669"}

    assert _content_range(Response) == (-1, None)
    Response.headers = {"Content-Range": "bytes 10-99/100"}
    assert _content_range(Response) == (10, 100)


# others' files


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("rife.onnx", b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "an ONNX graph, not plain weights"),
        ("rife.pkl", b"\x08\x08\x12\x07pytorch", "an ONNX graph"),
        ("flownet.param", b"7767517\n205 251\nInput in0 0 1 in0\n", "the graph of an ncnn model"),
        ("flownet.bin", b"G0k\x01" + bytes(range(64)), "the weights of an ncnn"),
        ("rife.engine", b"ftrt" + bytes(60), "a TensorRT engine"),
        ("rife.plan", b"\x01\x02\x03" * 20, "a TensorRT engine"),
        ("rife.mlmodel", b"\x08\x04\x12\x10" + bytes(20), "ONNX graph|CoreML"),
        ("rife.xml", b'<?xml version="1.0"?>\n<net name="rife" version="11">', "OpenVINO"),
        ("rife.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite"),
        ("rife.gguf", b"GGUF\x03\x00\x00\x00", "GGUF"),
    ],
)
def test_files_of_other_programs_are_named_with_what_to_get(tmp_path, name, data, said):
    refused(tmp_path / name, data, f"{said}.*Get the original of the same version")


@pytest.mark.parametrize(
    "names, said", [(("flownet.param", "flownet.bin"), "ncnn"), (("Manifest.json", "a.mlmodel"), "CoreML")]
)
def test_folders_of_other_programs_are_named(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(rife.UnknownCheckpointError, match=f"{said}.*made for another program"):
        load_network(tmp_path)
