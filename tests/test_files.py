"""Broken and hostile files: each is refused by name, with cause and remedy, and nothing in it is ever executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from contextlib import contextmanager, nullcontext

import golden_recipe as golden
import pytest
import torch
from safetensors.torch import save, save_file

import rife
from rife.checkpoint.files import read_file
from rife.checkpoint.load import load_network

SMALL = golden.state_dict("4.22.lite")


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(files: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@contextmanager
def little_memory(megabytes: int = 1024):
    """No more address space than there is now and `megabytes`, where the system can say so."""
    try:
        import resource

        pages = int(open("/proc/self/statm").read().split()[0])
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(tmp_path, data: bytes, said: str, name: str = "file.pth") -> str:
    """The refusal's message; what a file claims is not allocated for it."""
    path = tmp_path / name
    path.write_bytes(data)
    with little_memory(), pytest.raises(rife.UnknownCheckpointError, match=said) as error:
        load_network(path)
    message = str(error.value)
    assert name in message and len(message) > 60 and "alloc" not in message
    # After the cause follows what to do.
    assert re.search(r"\w[\w)][.:] \w", message.split(name, 1)[1]), message
    return message


class RunsCode:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, protocol, form):
    trap = tmp_path / "trap"
    content = OrderedDict(weights=OrderedDict(deep=[{"deeper": (RunsCode(trap),)}]))
    if form == "pickle":
        data = pickle.dumps(content, protocol=protocol)
    else:
        data = saved(content, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=form == "zip")
    refused(tmp_path, data, "would call (posix|nt).mkdir")
    assert not trap.exists()


def test_code_that_only_the_companion_of_a_folder_holds_is_not_run_either(tmp_path):
    trap = tmp_path / "trap"
    torch.save(SMALL, tmp_path / "flownet.pkl")
    torch.save({"a": RunsCode(trap)}, tmp_path / "contextnet.pkl")
    with pytest.raises(rife.UnknownCheckpointError, match="contextnet.pkl would call"):
        load_network(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_refused(tmp_path, form, share):
    data = (
        save(SMALL) if form == "safetensors" else saved(SMALL, _use_new_zipfile_serialization=form == "zip")
    )
    refused(tmp_path, data[: int(len(data) * share)], "again|plain weights")


def test_a_zip_that_unpacks_to_much_more_is_refused_before_it_is_unpacked(tmp_path):
    files = members(saved({"w": torch.zeros(64)}))
    bomb = {name: (b"\0" * 200_000_000 if name.endswith("data/0") else data) for name, data in files.items()}
    refused(tmp_path, zipped(bomb, zipfile.ZIP_DEFLATED), "unpacks to")


@pytest.mark.parametrize("second", ["{root}/data.pkl", "{root}/DATA.PKL", "other/data.pkl"])
def test_two_descriptions_in_one_archive_are_refused(tmp_path, second):
    """What is looked at must be what PyTorch reads; it takes the first entry's folder, and any case."""
    trap = tmp_path / "trap"
    files = members(saved(RunsCode(trap)))
    root = next(iter(files)).split("/")[0]
    harmless = members(saved({}))
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as archive,
        pytest.warns() if "{root}/data" in second else nullcontext(),
    ):
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(
            second.format(root=root), next(v for k, v in harmless.items() if k.endswith("data.pkl"))
        )
    refused(tmp_path, buffer.getvalue(), "would call" if "other" in second else "two entries of one name")
    assert not trap.exists()


@pytest.mark.parametrize("new", [True, False])
def test_a_storage_that_claims_more_than_there_is(tmp_path, new):
    data = saved(OrderedDict(w=torch.zeros(64)), _use_new_zipfile_serialization=new)
    if new:
        files = members(data)
        name = next(name for name in files if name.endswith("data.pkl"))
        # K and 64: the number of elements; J: four bytes of it.
        assert files[name].count(b"K@t") == 1
        files[name] = files[name].replace(b"K@t", b"J" + struct.pack("<i", 2**31 - 1) + b"t")
        refused(tmp_path, zipped(files), "claims 8589934588 bytes")
    else:
        assert data.count(b"K@N") == 1
        refused(tmp_path, data.replace(b"K@N", b"J" + struct.pack("<i", 2**31 - 1) + b"N"), "claims")


def test_a_tensor_that_repeats_a_small_storage_forever(tmp_path):
    huge = torch.zeros(1).expand(2**20, 2**20)
    refused(tmp_path, saved({"block0.conv0.1.0.weight": huge}), "fill\nthe memory|fill the memory|to fill")


@pytest.mark.parametrize(
    "tensor, said",
    [
        (torch.zeros(3, 3).to_sparse(), "sparse"),
        (torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), "quantised|would call|QInt8"),
        (torch.nn.Linear(2, 2), "would call torch.nn"),
    ],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path, tensor, said):
    refused(tmp_path, saved({"w": tensor}), said)


@pytest.mark.parametrize("index", [1000, 2**24 - 1, 2**32 - 1])
def test_a_memo_index_of_millions_is_refused(tmp_path, index):
    """The C unpickler would allocate that many entries; 2^24, found by fuzzing, took half a second."""
    data = b"\x80\x02}r" + struct.pack("<I", index) + b"."
    refused(tmp_path, data, "memo index")


TUPLES = b"\x80\x02)q\x00" + b"".join(b"(" + b"h%c" % i * 10 + b"tq%c" % (i + 1) for i in range(40))


@pytest.mark.parametrize(
    "end", [b"}h\x28Ks.", b"(X\x07\x00\x00\x00storageh\x28X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ."]
)
@pytest.mark.parametrize("form", ["pickle", "zip"])
def test_tuples_that_unfold_without_end_are_refused(tmp_path, end, form):
    """As a key they would be hashed, as a storage's name printed: 10^40 steps out of 600 bytes."""
    data = TUPLES + end
    if form == "zip":
        files = members(saved({}))
        data = zipped({name: data if name.endswith("data.pkl") else old for name, old in files.items()})
    refused(tmp_path, data, "unfold")


def test_a_dictionary_that_wraps_itself_is_refused(tmp_path):
    content = {}
    content["state_dict"] = content
    refused(tmp_path, saved(content), "not a RIFE")


def test_a_program_is_refused_though_it_holds_weights(tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
    refused(tmp_path, buffer.getvalue(), "TorchScript")


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"\n  <html><body>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"Rar!\x1a\x07\x01\x00", "RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x08\x07\x12\x07pytorch", "plain weights"),
        (zipped({"RIFE/flownet.pkl": b"x", "RIFE/readme": b"y"}), "zip archive of .*flownet.pkl"),
        (b"\x00" * 600, "plain weights"),
        (b"PK\x03\x04" + b"\0" * 200, "plain weights"),
        (pickle.dumps(3), "plain weights|int"),
        (saved([1, 2]), "holds a list"),
        (saved(torch.zeros(3)), "holds a Tensor"),
        (struct.pack("<Q", 50) + b"{" + b" " * 49, "safetensors"),
        (struct.pack("<Q", 10**7) + b"{}", "safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["file.pkl", "file.safetensors"])
def test_what_people_save_instead_of_a_checkpoint_is_recognised(tmp_path, data, said, name):
    refused(tmp_path, data, said, name)


def safetensors_claiming(shape, offsets, dtype="F32") -> bytes:
    header = json.dumps(
        {"block0.conv0.1.0.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
    )
    return struct.pack("<Q", len(header)) + header.encode() + b"\0" * 64


@pytest.mark.parametrize(
    "shape, offsets", [([2**20, 2**20], [0, 2**42]), ([16], [0, 2**60]), ([4], [60, 76]), ([4], [16, 0])]
)
def test_safetensors_that_claim_what_they_do_not_hold(tmp_path, shape, offsets):
    refused(tmp_path, safetensors_claiming(shape, offsets), "safetensors")


def test_folders_pipes_and_huge_files_are_not_read(tmp_path):
    pipe, large = tmp_path / "pipe.pkl", tmp_path / "large.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(rife.UnknownCheckpointError, match="pipe.pkl is not a regular file"):
        load_network(pipe)
    with open(large, "wb") as file:
        file.truncate(7 * 10**9)  # sparse: takes no room
    with pytest.raises(rife.UnknownCheckpointError, match="large.safetensors has 7.0 GB"):
        load_network(large)
    with pytest.raises(FileNotFoundError, match="holds no flownet"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["weights.dat", "flownet.safetensors", "renamed.pth"])
def test_content_counts_and_not_the_suffix(tmp_path, name):
    for form in ("zip", "safetensors"):
        (tmp_path / name).write_bytes(save(SMALL) if form == "safetensors" else saved(SMALL))
        assert load_network(tmp_path / name).config == rife.RELEASES["4.22.lite"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_floating_dtype_loads(tmp_path, dtype):
    torch.save({k: v.to(dtype) for k, v in SMALL.items()}, tmp_path / "a.pth")
    network = load_network(tmp_path / "a.pth")
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
)
def test_every_other_dtype_is_refused(tmp_path, dtype):
    state_dict = {**SMALL, "encode.cnn0.weight": SMALL["encode.cnn0.weight"].to(dtype)}
    refused(
        tmp_path, saved(state_dict), "8 bits" if "float8" in str(dtype) else str(dtype).removeprefix("torch.")
    )
    refused(tmp_path, save(state_dict), str(dtype).removeprefix("torch."), "file.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    state_dict = {**SMALL, "block0.lastconv.0.bias": torch.full_like(SMALL["block0.lastconv.0.bias"], value)}
    refused(tmp_path, saved(state_dict), "NaN or infinity")


@pytest.mark.parametrize(
    "key",
    [
        "block0.conv0.0.0.weight",
        "block0.conv0.1.0.weight",
        "block0.convblock.0.conv.weight",
        "block0.lastconv.0.weight",
        "block1.conv0.0.0.weight",
        "encode.cnn0.weight",
        "encode.cnn3.weight",
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3, 3), (1, 1, 1, 1, 1)])
def test_tensors_of_impossible_shapes_are_refused(tmp_path, key, shape):
    refused(tmp_path, saved({**SMALL, key: torch.zeros(shape)}), "file.pth")


def test_meta_tensors_in_a_state_dict_are_refused():
    with pytest.raises(rife.UnknownCheckpointError, match="meta|no data"):
        load_network({k: v.to("meta") for k, v in SMALL.items()})


@pytest.mark.parametrize(
    "key, said",
    [
        ("extract.extract_sublevels.convs.0.0.conv.weight", "FILM"),
        ("encoder.pyramid1.0.0.weight", "IFRNet"),
        ("feat_ext.block1.0.weight", "GMFSS"),
        ("model.diffusion_model.input_blocks.0.0.weight", "diffusion model"),
        ("conv_first.weight", "upscaler"),
        ("model.1.sub.0.RDB1.conv1.0.weight", "ESRGAN"),
        ("module.fnet.conv1.weight", "RAFT"),
    ],
)
def test_files_for_other_loaders_are_named(tmp_path, key, said):
    refused(tmp_path, saved({key: torch.zeros(1)}), said)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": [10**9] * 4},
        {"channels": [192, 128, 64, 32] * 1000},
        {"scales": [8, 4, 2]},
        {"scales": [8, 4, 2, 3]},
        {"pad": 0},
        {"pad": 10**9},
        {"head_channels": 10**9},
        {"network": "legacy"},
        {"stem_stride": 7},
        {"pad": {}},
        {"pad": "32"},
        {"scales": [[8], 4, 2, 1]},
        {"scales": 8},
        {"act": "soft"},
        {"stem_padding": "imaginary"},
        {"ensemble": 3},
        {"teacher": "yes"},
    ],
)
def test_metadata_that_does_not_fit_the_tensors_is_refused(tmp_path, change):
    config = {"network": "ifnet", **rife.RELEASES["4.22.lite"].to_dict(), **change}
    save_file(SMALL, tmp_path / "a.safetensors", {"rife_config": json.dumps(config)})
    with pytest.raises(rife.UnknownCheckpointError, match="metadata"):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"family": 3}', '{"channels": "abc"}']
)
def test_metadata_that_is_not_a_configuration_is_refused(tmp_path, text):
    save_file(SMALL, tmp_path / "a.safetensors", {"rife_config": text})
    with pytest.raises(rife.UnknownCheckpointError, match="metadata"):
        load_network(tmp_path / "a.safetensors")


def test_a_training_checkpoint_with_its_optimiser_loads(tmp_path):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "best": 31.5, "model": SMALL, "optimizer": optimizer.state_dict(), "name": "run é"}
    torch.save(content, tmp_path / "last.pt")
    assert load_network(tmp_path / "last.pt").config == rife.RELEASES["4.22.lite"]
    assert read_file(tmp_path / "last.pt")[0]["epoch"] == 3
