"""Every node, against the stand-in host."""

from __future__ import annotations

import gc
import json
import os
import sys
import weakref
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import golden_recipe as golden
import host as stand_in
import pytest
import torch
from torch import nn
from web import Web, fail, serve

import rife
from rife.networks.config import RELEASES
from rife.networks.ifnet import IFNet
from rife.timeline.plans import Clock, plan


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Tensors this small only wait for each other's threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = stand_in.small_network(IFNet, RELEASES["4.26"])
    return rife.save_checkpoint(network, tmp_path_factory.mktemp("files") / "small.safetensors")


@pytest.fixture
def host(tmp_path, checkpoint):
    for folder in ("frame_interpolation", "rife"):
        (tmp_path / folder).mkdir()
    os.link(checkpoint, tmp_path / "frame_interpolation" / "small.safetensors")
    yield from stand_in.installed(tmp_path)


@pytest.fixture
def model(host):
    return host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]


def clip(n=3, h=40, w=56, c=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, h, w, c, generator=generator)


class Blend(nn.Module):
    """A model as ComfyUI's own: the frames blended by time, so that every result is known."""

    pad_align = 64

    def __init__(self):
        super().__init__()
        self.conv = stand_in.ComfyOps(3, 3, 1)
        self.beta = nn.Parameter(torch.ones(1))
        self.calls = []

    def get_dtype(self):
        return self.beta.dtype

    def memory_used_forward(self, shape, dtype):
        return 300 * shape[1] * shape[2] * dtype.itemsize

    def extract_features(self, img):
        return img[:, :0]

    def forward(self, img0, img1, timestep=0.5, cache=None):
        assert img0.shape[2] % 64 == 0 and timestep.shape == (len(img0), 1, *img0.shape[2:])
        self.calls.append(len(img0))
        return torch.lerp(img0, img1, timestep)


class Film(nn.Module):
    """As ComfyUI's FILM: one pair, several times; takes every size that can be halved six times."""

    pyramid_levels = 7

    def __init__(self):
        super().__init__()
        self.conv = stand_in.ComfyOps(3, 3, 1)
        self.pairs, self.extracted = [], 0

    def get_dtype(self):
        return self.conv.weight.dtype

    def memory_used_forward(self, shape, dtype):
        return 1700 * shape[1] * shape[2] * dtype.itemsize

    def extract_features(self, img):
        self.extracted += 1
        return img

    def forward(self, img0, img1, timestep=0.5, cache=None):
        raise AssertionError("one pair with all its times is cheaper")

    def forward_multi_timestep(self, img0, img1, timesteps, cache=None):
        assert len(img0) == 1 and min(img0.shape[2:]) >= 64
        assert torch.equal(cache["img0"], img0) and torch.equal(cache["img1"], img1)
        self.pairs.append(list(timesteps))
        return torch.cat([torch.lerp(img0, img1, t) for t in timesteps])


def native(network):
    return stand_in.Patcher(network, torch.device("cpu"), torch.device("cpu"))


# the pack


def test_importing_the_pack_imports_neither_its_nodes_nor_comfyui():
    before = set(sys.modules)
    spec = stand_in.importlib.util.spec_from_file_location("door-only", stand_in.ROOT / "__init__.py")
    module = stand_in.importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not {name for name in set(sys.modules) - before if "nodes" in name or "comfy" in name}
    assert not hasattr(module, "NODE_CLASS_MAPPINGS")


PROMISED = {
    "RIFECheckpointLoader": (["checkpoint", "variant", "precision"], ["interp_model"]),
    "RIFEInterpolate": (
        [
            "interp_model",
            "images",
            "multiplier",
            "fps",
            "scale",
            "tta",
            "ensemble",
            "timesteps",
            "batch_size",
            "timing",
            "loop",
            "keep_duration",
            "cuts",
            "cut_frames",
            "repeated_frames",
            "mask",
            "clip_length",
            "precision",
            "acceleration",
        ],
        ["images", "fps", "frame_count", "report", "cuts", "mask"],
    ),
    "RIFEInbetween": (
        [
            "interp_model",
            "image0",
            "image1",
            "timestep",
            "scale",
            "tta",
            "ensemble",
            "precision",
            "acceleration",
        ],
        ["images"],
    ),
    "RIFETrainStep": (
        [
            "interp_model",
            "img0",
            "img1",
            "ground_truth",
            "steps",
            "learning_rate",
            "timestep",
            "distill_weight",
            "max_grad_norm",
            "training_dtype",
        ],
        ["interp_model", "merged", "teacher", "loss_map", "steps", "report"],
    ),
    "RIFETrain": (
        [
            "interp_model",
            "batch_size",
            "grad_accumulation_steps",
            "steps",
            "learning_rate",
            "seed",
            "training_dtype",
            "images",
            "video",
            "folder",
            "crop",
            "held_out",
            "augmentation",
            "allow_worse",
            "warm_up",
            "ema",
            "score_every",
            "max_distance",
            "teacher",
            "max_frames",
            "max_width",
        ],
        ["interp_model", "loss_map", "steps", "plot", "before", "after", "ground_truth", "report"],
    ),
    "RIFECheckpointSave": (["interp_model", "filename_prefix", "precision"], ["checkpoint"]),
    "RIFEInterpolateVideo": (
        [
            "interp_model",
            "video",
            "multiplier",
            "scale",
            "tta",
            "ensemble",
            "batch_size",
            "timing",
            "loop",
            "keep_duration",
            "cuts",
            "cut_frames",
            "repeated_frames",
            "codec",
            "crf",
        ],
        ["video", "fps", "frame_count", "report"],
    ),
    "RIFEInterpolateChunks": (
        [
            "interp_model",
            "images",
            "meta_batch",
            "fps",
            "multiplier",
            "scale",
            "tta",
            "ensemble",
            "batch_size",
            "timing",
            "loop",
            "keep_duration",
            "cuts",
            "cut_frames",
            "repeated_frames",
        ],
        ["images", "fps"],
    ),
}


# A DynamicCombo starts with its first option.
SOCKETS = (
    "IMAGE",
    "MASK",
    "VIDEO",
    "INTERP_MODEL",
    "INTERPOLATION_STATES",
    "VHS_BATCHMANAGER",
    "VHS_BatchManager",
    "COMFY_DYNAMICCOMBO_V3",
)


@pytest.mark.parametrize("node_id", PROMISED)
def test_inputs_and_outputs_keep_their_names_and_order(host, node_id):
    schema = host.nodes[node_id].define_schema()
    inputs, outputs = PROMISED[node_id]
    # New ones may follow, where they are optional.
    assert [i.id for i in schema.inputs][: len(inputs)] == inputs
    assert all(i.options.get("optional") for i in schema.inputs[len(inputs) :])
    assert [o.options["display_name"] for o in schema.outputs][: len(outputs)] == outputs


def test_every_node_explains_itself_and_each_of_its_sockets(host):
    for node_id, node in host.nodes.items():
        schema = node.define_schema()
        assert node_id.startswith("RIFE") and schema.node_id == node_id
        for field in ("display_name", "category", "description", "search_aliases"):
            assert schema.options[field], (node_id, field)
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.options.get("tooltip"), (node_id, socket.id)


def test_required_inputs_come_before_optional_ones_and_every_widget_has_a_default(host):
    for node in host.nodes.values():
        inputs = node.define_schema().inputs
        optional = [bool(i.options.get("optional")) for i in inputs]
        assert optional == sorted(optional)
        assert all("default" in i.options for i in inputs if i.io_type not in SOCKETS)


# loading


def test_the_bundled_checkpoint_is_the_first_and_default_choice(host):
    combo = host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options
    assert combo["options"][:3] == ["rife_comfy (bundled)", "small.safetensors", "4.25 (download)"]
    assert combo["default"] == "rife_comfy (bundled)"


def on_disk(host):
    """What the combo lists, but for what it offers to download."""
    options = host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options["options"]
    return [option for option in options if not option.endswith(" (download)")]


def test_files_of_both_folders_are_listed_and_twins_carry_their_folder(host, checkpoint):
    (host.models_dir / "rife" / "sub").mkdir()
    (host.models_dir / "rife" / "sub" / "other.pkl").write_bytes(b"")
    (host.models_dir / "rife" / "notes.txt").write_bytes(b"")
    (host.models_dir / "rife" / "small.safetensors").write_bytes(checkpoint.read_bytes())
    options = on_disk(host)
    assert options[1:] == [
        "frame_interpolation/small.safetensors",
        "rife/small.safetensors",
        os.path.join("sub", "other.pkl"),
    ]
    assert host.run("RIFECheckpointLoader", checkpoint="rife/small.safetensors")


def test_one_file_in_both_folders_is_listed_once(host, checkpoint):
    os.link(checkpoint, host.models_dir / "rife" / "small.safetensors")
    options = on_disk(host)
    assert options[1:] == ["small.safetensors"]


def test_the_parts_of_a_three_network_family_are_one_entry(host):
    folder = host.models_dir / "rife" / "RIFE_v2"
    folder.mkdir()
    for part in ("flownet", "contextnet", "unet"):
        (folder / f"{part}.pkl").write_bytes(b"")
    options = on_disk(host)
    assert options[1:] == [os.path.join("RIFE_v2", "flownet.pkl"), "small.safetensors"]


def test_a_folder_that_only_extra_model_paths_names_gets_the_usual_extensions(tmp_path):
    host = stand_in.Host(tmp_path)
    folder_paths = host.modules["folder_paths"]
    folder_paths.add_model_folder_path("rife", str(tmp_path / "elsewhere"))
    folder_paths.folder_names_and_paths["rife"] = ([str(tmp_path / "elsewhere")], set())
    assert folder_paths.folder_names_and_paths["rife"][1] == set()
    generator = stand_in.installed(tmp_path)
    host = next(generator)
    try:
        paths, extensions = host.modules["folder_paths"].folder_names_and_paths["rife"]
        assert ".pkl" in extensions and str(tmp_path / "rife") in paths
    finally:
        generator.close()


@pytest.mark.parametrize("pack", ["ComfyUI-Frame-Interpolation", "comfyui-frame-interpolation"])
def test_files_of_the_other_pack_are_listed_also_those_that_it_fetches_later(tmp_path, checkpoint, pack):
    (tmp_path / "custom_nodes" / pack).mkdir(parents=True)
    for folder in ("frame_interpolation", "rife"):
        (tmp_path / folder).mkdir()
    generator = stand_in.installed(tmp_path)
    host = next(generator)
    try:
        assert on_disk(host) == ["rife_comfy (bundled)"]
        (tmp_path / "custom_nodes" / pack / "ckpts" / "rife").mkdir(parents=True)
        (tmp_path / "custom_nodes" / pack / "ckpts" / "film").mkdir()
        os.link(checkpoint, tmp_path / "custom_nodes" / pack / "ckpts" / "rife" / "rife47.pth")
        os.link(checkpoint, tmp_path / "custom_nodes" / pack / "ckpts" / "film" / "film.pt")
        assert on_disk(host) == ["rife_comfy (bundled)", "rife47.pth"]
        assert host.run("RIFECheckpointLoader", checkpoint="rife47.pth")
    finally:
        generator.close()


def test_the_loader_gives_a_patcher_that_can_be_rebuilt_from_its_recipe(host, model):
    factory, arguments = model.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert again.model is not model.model
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), model.model.parameters(), strict=True)
    )


def test_loading_one_file_twice_shares_its_weights(host, model, tmp_path):
    again = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    assert again.model is model.model
    os.symlink(
        host.models_dir / "frame_interpolation" / "small.safetensors", host.models_dir / "rife" / "link.pth"
    )
    assert host.run("RIFECheckpointLoader", checkpoint="link.pth")[0].model is model.model
    other = host.run("RIFECheckpointLoader", checkpoint="small.safetensors", precision="fp16")[0]
    assert other.model is not model.model and model.model.get_dtype() == torch.float32


def test_a_file_that_was_overwritten_is_not_shared(host, model):
    path = host.models_dir / "frame_interpolation" / "small.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0].model is not model.model


def test_nothing_of_a_model_stays_when_it_is_unloaded(host):
    first = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    second = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")[0]
    weight = weakref.ref(next(first.model.parameters()))
    del first
    gc.collect()
    assert weight() is not None and second is not None
    del second
    gc.collect()
    assert weight() is None


def test_weights_loaded_in_inference_mode_can_still_be_trained(model):
    assert not any(p.is_inference() for p in model.model.parameters())


@pytest.mark.parametrize(
    ("precision", "half", "expected"),
    [
        ("auto", False, "float32"),
        ("auto", True, "float16"),
        ("fp32", True, "float32"),
        ("bf16", True, "bfloat16"),
    ],
)
def test_precision_follows_the_device_unless_it_is_named(host, precision, half, expected):
    host.half = half
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint="small.safetensors", precision=precision)
    assert patcher.model.get_dtype() == getattr(torch, expected) == patcher.model_dtype()


def test_auto_takes_bf16_where_the_host_trusts_the_device_with_that_only(host):
    host.bf16 = True
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint="small.safetensors")
    assert patcher.model_dtype() == torch.bfloat16


def test_another_precision_for_one_run_leaves_the_model_as_it_was(host, model):
    images = torch.rand(3, 32, 48, 3)
    exact = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2)[0]
    result, *_, facts, _, _ = host.run(
        "RIFEInterpolate", interp_model=model, images=images, multiplier=2, precision="bf16"
    )
    assert model.model.get_dtype() == torch.float32 and json.loads(facts)["precision"] == "bfloat16"
    assert 0 < (result - exact).abs().mean() < 0.005
    between = {"interp_model": model, "image0": images[:1], "image1": images[1:2], "timestep": 0.5}
    assert torch.equal(host.run("RIFEInbetween", **between, precision="bf16")[0][0], result[1])


def test_acceleration_that_does_not_work_here_is_said_and_changes_nothing(host, model, caplog):
    images = torch.rand(3, 32, 48, 3)
    expected = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2)[0]
    asked = {"interp_model": model, "images": images, "multiplier": 2, "acceleration": "cuda graphs"}
    assert torch.equal(host.run("RIFEInterpolate", **asked)[0], expected)
    assert "No cuda graphs on this machine" in caplog.text


def test_the_fingerprint_changes_when_the_file_is_overwritten(host, checkpoint):
    loader = host.nodes["RIFECheckpointLoader"]
    path = host.models_dir / "frame_interpolation" / "mine.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    first = loader.fingerprint_inputs("mine.safetensors", "auto", "auto")
    assert loader.fingerprint_inputs("mine.safetensors", "auto", "auto") == first
    os.utime(path, ns=(1, 1))
    assert loader.fingerprint_inputs("mine.safetensors", "auto", "auto") != first


def test_a_file_that_is_no_rife_is_refused_with_its_reason(host):
    torch.save({"conv.weight": torch.zeros(1)}, host.models_dir / "rife" / "upscaler.pth")
    with pytest.raises(ValueError, match="not a RIFE"):
        host.run("RIFECheckpointLoader", checkpoint="upscaler.pth")
    with pytest.raises(FileNotFoundError, match="models/frame_interpolation"):
        host.run("RIFECheckpointLoader", checkpoint="absent.pkl")


# downloading


@pytest.fixture
def web(host, monkeypatch):
    """A server with RIFE 4.15.lite, which the catalogue of this host then has from there."""
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Web().running() as running:
        running.files["/flownet.pkl"] = golden.release_file("4.15.lite")
        catalog = sys.modules[f"{stand_in.PACK}.rife.checkpoint.catalog"]
        urls = (running.url + "/flownet.pkl",)
        row = replace(catalog.DOWNLOADS["4.15.lite"], urls=urls)
        monkeypatch.setitem(catalog.DOWNLOADS, "4.15.lite", row)
        yield running


CHOICE = "4.15.lite (download)"
FILE = "flownet_v4.15.lite.pkl"


def choices(host):
    return host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options["options"]


def test_downloads_stand_after_the_files_and_are_offered_while_they_are_not_there(host, web):
    offered = choices(host)
    first = next(i for i, option in enumerate(offered) if option.endswith(" (download)"))
    assert offered[:first] == on_disk(host) and CHOICE in offered[first:]
    assert all(option.endswith(" (download)") for option in offered[first:])
    (host.models_dir / "rife" / "sub").mkdir()
    (host.models_dir / "rife" / "sub" / FILE).write_bytes(web.files["/flownet.pkl"])
    assert CHOICE not in choices(host) and os.path.join("sub", FILE) in choices(host)
    assert host.run("RIFECheckpointLoader", checkpoint=CHOICE)[0].model.config.versions[0] == "4.15.lite"
    assert not web.requests


def test_a_choice_is_downloaded_once_and_keeps_its_name(host, web):
    loader = host.nodes["RIFECheckpointLoader"]
    before = loader.fingerprint_inputs(CHOICE)
    assert loader.validate_inputs(CHOICE) is True and not web.requests
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert "4.15.lite" in patcher.model.config.versions
    size = len(web.files["/flownet.pkl"])
    assert host.progress[-1][:2] == (size, size)
    path = host.models_dir / "frame_interpolation" / FILE
    assert path.read_bytes() == web.files["/flownet.pkl"] and FILE in on_disk(host)
    # What came after the loader is not run again, until the file is another one.
    assert loader.fingerprint_inputs(CHOICE) == before
    assert loader.validate_inputs(CHOICE) is True and loader.validate_inputs(FILE) is True
    for name in (CHOICE, FILE):
        host.run("RIFECheckpointLoader", checkpoint=name)
    factory, arguments = patcher.cached_patcher_init
    assert factory(*arguments).model is not patcher.model
    assert len(web.requests) == 1
    os.utime(path, ns=(1, 1))
    assert loader.fingerprint_inputs(CHOICE) != before


def test_names_that_mean_nothing_do_not_validate_and_the_message_offers_the_download(host, web):
    validate = host.nodes["RIFECheckpointLoader"].validate_inputs
    assert validate("rife_comfy (bundled)") is True and validate("small.safetensors") is True
    assert validate() is True and validate(None) is True  # linked
    assert host.nodes["RIFECheckpointLoader"].fingerprint_inputs(None) == "linked"
    assert "choose '4.15.lite (download)'" in validate(FILE)
    assert "models/frame_interpolation" in validate("absent.safetensors")
    for name in ("5.0 (download)", "4.15.lite", "../small.safetensors"):
        assert "There is no checkpoint" in validate(name)


def test_a_file_that_is_not_there_is_not_downloaded_unasked(host, web):
    with pytest.raises(FileNotFoundError, match="choose '4.15.lite"):
        host.run("RIFECheckpointLoader", checkpoint=FILE)
    assert not web.requests


def test_a_download_can_be_cancelled_and_goes_on_the_next_time(host, web):
    web.script = [serve(hang=5000)]
    host.cancel_after = 3
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert CHOICE in choices(host)
    host.cancel_after = None
    assert host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert web.headers("Range") == [None, "bytes=5000-"]
    assert FILE in choices(host) and not list(host.models_dir.rglob("*.part*"))


def test_the_first_folder_that_can_be_written_to_is_taken(host, web, monkeypatch):
    paths = host.modules["folder_paths"].folder_names_and_paths["frame_interpolation"][0]
    locked, new = host.models_dir / "locked", host.models_dir / "new" / "folder"
    locked.mkdir()
    paths[:] = [str(locked), str(new)]
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert (new / FILE).exists() and not list(locked.iterdir())


def test_a_download_that_fails_says_where_to_put_the_file(host, web, monkeypatch):
    path = str(host.models_dir / "frame_interpolation" / FILE)
    web.script = [fail(404)]
    with pytest.raises(RuntimeError, match="404") as error:
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert path in str(error.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RuntimeError, match="HF_HUB_OFFLINE") as error:
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert path in str(error.value) and len(web.requests) == 1


# when frames are shown


def moving(n=9, cuts=(), h=48, w=64):
    """A texture that moves 2 px a frame, another one from each cut on."""
    generator = torch.Generator().manual_seed(4)
    scenes = [torch.rand(h // 4, (w + 120) // 4, 3, generator=generator) for _ in range(len(cuts) + 1)]
    scenes = [scene.repeat_interleave(4, 0).repeat_interleave(4, 1) for scene in scenes]
    return torch.stack([scenes[sum(c <= i for c in cuts)][:, 2 * i : 2 * i + w] for i in range(n)])


def interpolated(host, network, frames, **inputs):
    """(images, fps, the report) of one run."""
    images, fps, count, report, cuts, _ = host.run(
        "RIFEInterpolate", **{"interp_model": native(network), "images": frames, "multiplier": 2, **inputs}
    )
    facts = json.loads(report)
    assert count == len(images) == facts["frames_out"]
    assert facts["passed"] + facts["new"] + facts["held"] + facts["blended"] == count
    assert cuts == ", ".join(map(str, facts["cuts"]))
    return images, fps, facts


def test_without_new_inputs_the_result_is_as_it_always_was(host, model, checkpoint):
    frames = moving(49, cuts=())
    images, fps, count, report, cuts, _ = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=2, fps=8.0
    )
    assert (fps, count, cuts) == (16.0, 97, "")
    assert torch.equal(images, rife.interpolate(rife.load_model(checkpoint, device="cpu"), frames, 2))


@pytest.mark.parametrize("target, exact", [(60.0, "60"), (59.94, "60000/1001"), (8.0, "8")])
def test_a_frame_rate_gives_the_core_s_plan(host, target, exact):
    frames = moving()
    timing = {"timing": "frame rate", "target_fps": target}
    images, fps, facts = interpolated(host, Blend(), frames, fps=16.0, timing=timing)
    steps = plan(Clock(9, 16), rate=Fraction(exact))
    assert fps == float(Fraction(exact)) and facts["fps"] == exact and len(images) == len(steps)
    for image, step in zip(images, steps, strict=True):
        expected = torch.lerp(frames[step.left], frames[step.right], float(step.time))
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
    assert facts["timing_error_s"] == 0


def test_slow_motion_keeps_the_rate(host):
    assert (
        interpolated(host, Blend(), moving(), timing={"timing": "frame rate", "target_fps": None})[1] == 60.0
    )
    timing = {"timing": "frame rate", "target_fps": 24.0, "speed": 0.25}
    images, fps, facts = interpolated(host, Blend(), moving(), fps=24.0, timing=timing)
    assert (fps, len(images)) == (24.0, 33)


def test_a_curve_may_freeze_and_run_backward(host):
    frames = moving(5)
    timing = {"timing": "retime curve", "curve": "0:0, 1/4:1/2\n1/2:1/2; 1:0"}
    images, fps, facts = interpolated(host, Blend(), frames, fps=8.0, timing=timing)
    shown = [0, 2, 4, 4, 4, 3, 2, 1, 0]
    assert fps == 8.0 and torch.equal(images, frames[shown])


def test_times_of_the_timing_are_timesteps(host):
    one = interpolated(host, Blend(), moving(), timing={"timing": "timesteps", "times": "1/4, 0.9"})
    other = interpolated(host, Blend(), moving(), timesteps="0.25, 9/10")
    assert torch.equal(one[0], other[0]) and one[1] == other[1] == 72.0


def test_a_loop_comes_back_and_a_kept_duration_stays(host):
    frames = moving(5)
    looped, fps, _ = interpolated(host, Blend(), frames, loop=True)
    assert fps == 48.0 and len(looped) == 10
    torch.testing.assert_close(looped[-1], (frames[-1] + frames[0]) / 2, atol=1e-6, rtol=0)
    kept, _, facts = interpolated(host, Blend(), frames, keep_duration=True)
    assert len(kept) == 10 and torch.equal(kept[-1], frames[-1]) and facts["held"] == 1


@pytest.mark.parametrize("cuts", ["hold", "nearest", "blend", "off"])
def test_nothing_morphs_across_a_cut_unless_it_is_asked_for(host, cuts):
    frames, network = moving(12, cuts=(5,)), Blend()
    images, _, facts = interpolated(host, network, frames, multiplier=4, cuts=cuts)
    middle = {"hold": frames[4], "nearest": frames[5]}.get(cuts, (frames[4] + frames[5]) / 2)
    torch.testing.assert_close(images[18], middle, atol=1e-6, rtol=0)
    assert len(images) == 45 and facts["cuts"] == ([] if cuts == "off" else [5])
    assert sum(network.calls) == (33 if cuts == "off" else 30)
    assert [pair["kind"] for pair in facts["pairs"]][4] == {"blend": "blend", "off": "new"}.get(cuts, "cut")


def test_cuts_may_be_given(host):
    _, _, facts = interpolated(host, Blend(), moving(), cut_frames="3, 7")
    assert facts["cuts"] == [3, 7]
    with pytest.raises(ValueError, match="cut_frames"):
        interpolated(host, Blend(), moving(), cut_frames="9")


def test_clips_in_one_batch_never_meet(host):
    """Each is treated as if it were alone: its loop comes back to its own first frame, its cuts are its own."""
    one, other = moving(6), moving(6, cuts=(3,)).flip(1)
    for inputs in ({"loop": True, "cuts": "off"}, {"keep_duration": True}, {"cuts": "blend"},
                   {"timing": {"timing": "frame rate", "target_fps": 10.0}, "repeated_frames": "retime"}):  # fmt: skip
        both, _, facts = interpolated(host, Blend(), torch.cat((one, other)), clip_length=6, **inputs)
        alone = [interpolated(host, Blend(), clip, **inputs) for clip in (one, other)]
        assert torch.equal(both, torch.cat([images for images, _, _ in alone]))
        assert facts["clips"] == 2 and facts["new"] == sum(part["new"] for _, _, part in alone)
        assert facts["cuts"] == [6 + cut for cut in alone[1][2]["cuts"]]
        shifted = [{**pair, "frames": [6 + i for i in pair["frames"]]} for pair in alone[1][2]["pairs"]]
        assert facts["pairs"] == alone[0][2]["pairs"] + shifted
    given = interpolated(host, Blend(), torch.cat((one, other)), clip_length=6, cut_frames="2, 8")[2]
    assert given["cuts"] == [2, 8]
    with pytest.raises(ValueError, match="clip_length is 5 for 12 frames"):
        interpolated(host, Blend(), torch.cat((one, other)), clip_length=5)


def test_the_demo_of_cogvideo_counts_and_holds_as_there_without_its_faults(host):
    """A smooth pan of 1 px a frame is static to it, a texture of 16 px a frame all cuts; 49 frames become 98."""
    wave = torch.sin(torch.arange(400) / 40.0).view(1, -1, 1).expand(90, -1, 3) / 2 + 0.5
    smooth = torch.stack([wave[:, i : i + 100] for i in range(49)])
    run = {"fps": 8.0, "timing": {"timing": "cogvideo demo", "exp": 1}, "keep_duration": True}
    images, fps, facts = interpolated(host, Blend(), smooth, **run)
    assert (len(images), fps) == (98, 16.0) and facts["repeats"] == list(range(1, 49)) and facts["new"] == 0
    assert torch.equal(images[::2], smooth) and torch.equal(images[1::2], smooth)
    ours = interpolated(host, Blend(), smooth, fps=8.0)[2]
    assert ours["new"] == 48 and ours["repeats"] == []
    rough = moving(57, h=64)[::8]
    images, _, facts = interpolated(host, Blend(), rough, timing={"timing": "cogvideo demo", "exp": 2})
    assert len(images) == 29 and facts["cuts"] == list(range(1, 8)) and facts["held"] == 21


def test_drawings_on_twos_move_or_stay(host):
    frames = moving(5).repeat_interleave(2, 0)
    held, _, facts = interpolated(host, Blend(), frames)
    assert facts["repeats"] == [1, 3, 5, 7, 9] and torch.equal(held[1], frames[0])
    moved, _, facts = interpolated(host, Blend(), frames, repeated_frames="retime")
    torch.testing.assert_close(moved[1], torch.lerp(frames[0], frames[2], 0.25), atol=1e-6, rtol=0)
    assert len(held) == len(moved) == 19 and facts["timing_error_s"] == 0


def test_the_report_tells_the_motion(host):
    _, _, facts = interpolated(host, Blend(), moving(), multiplier=3)
    assert len(facts["pairs"]) == 8 and facts["precision"] == "float32" and facts["device"] == "cpu"
    for pair in facts["pairs"]:
        assert pair["timesteps"] == ["1/3", "2/3"] and abs(pair["motion_px"] - 2) < 1


def test_the_scale_follows_the_motion_and_the_report_says_why(host, model):
    run = {"interp_model": model, "multiplier": 2, "scale": "auto", "cuts": "off", "repeated_frames": "off"}
    facts = [
        json.loads(host.run("RIFEInterpolate", images=frames, **run)[3])
        for frames in (moving(3, h=200, w=240), moving(60, h=200, w=240)[::15])
    ]
    assert [f["scale"] for f in facts] == [1.0, 0.5] and "up to 30 px" in facts[1]["scale_reason"]
    assert (
        json.loads(
            host.run("RIFEInterpolate", **{**run, "interp_model": native(Blend())}, images=moving())[3]
        )["scale"]
        == 1.0
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_mask_moves_with_the_images_in_one_go(host, model, checkpoint, channels, monkeypatch):
    frames = moving(4)
    mask = (frames[..., 0] > 0.5).float()
    images = torch.cat((frames, frames[..., :1]), 3)[..., :channels]
    plain = host.run("RIFEInterpolate", interp_model=model, images=images, multiplier=2, loop=True)
    passes, predict = [], model.model.predict_from
    monkeypatch.setattr(model.model, "predict_from", lambda *a, **k: passes.append(1) or predict(*a, **k))
    result = host.run(
        "RIFEInterpolate", interp_model=model, images=images, multiplier=2, loop=True, mask=mask
    )
    assert len(passes) == 4
    torch.testing.assert_close(result[0], plain[0], atol=1e-5, rtol=0)
    assert result[5].shape == result[0].shape[:3] and torch.equal(result[5][::2], mask)
    assert torch.equal(plain[5], torch.zeros_like(result[5]))
    as_alpha = torch.cat((images[..., :3].expand(-1, -1, -1, 3), mask[..., None]), 3)
    core = rife.load_model(checkpoint, device="cpu")
    expected = rife.interpolate(core, as_alpha, plan=plan(Clock(4, 24), multiplier=2, loop=True))
    torch.testing.assert_close(result[5], expected[..., 3], atol=1e-5, rtol=0)


def test_masks_cost_no_copy_of_the_clip(host, model, monkeypatch):
    memory, made = host.module("nodes.memory"), []
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda tensors, *a, **k: made.append(cat(tensors, *a, **k)) or made[-1])
    empty = memory.empty_images
    monkeypatch.setattr(memory, "empty_images", lambda shape: made.append(empty(shape)) or made[-1])
    frames = clip(9)
    result = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, mask=frames[..., 0])
    copies = [x for x in made if x.numel() > frames[:3].numel() and x.shape[-1] == 4]
    assert not copies and all(any(x is made_one for made_one in made) for x in (result[0], result[5]))


def test_one_mask_serves_all_frames_and_one_that_does_not_fit_is_refused(host, model):
    frames = moving(3)
    run = {"interp_model": model, "images": frames, "multiplier": 2}
    assert host.run("RIFEInterpolate", **run, mask=torch.ones(1, 48, 64))[5].min() > 0.99
    for shape in ((2, 48, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match="mask is"):
            host.run("RIFEInterpolate", **run, mask=torch.ones(shape))


@pytest.mark.parametrize(
    "timing",
    [{"timing": "bogus"}, {"timing": "frame rate", "target_fps": 0.0}, {"timing": "frame rate", "speed": -1.0},
     {"timing": "timesteps", "times": "2"}, {"timing": "retime curve", "curve": "1, 2"},
     {"timing": "retime curve", "curve": "0:0, 1:99"}],
)  # fmt: skip
def test_a_timing_that_cannot_be_is_refused_before_any_work(host, timing):
    network = Blend()
    with pytest.raises(ValueError, match="expected"):
        interpolated(host, network, moving(), timing=timing)
    assert not network.calls


def test_a_timing_that_comfyui_left_out_is_not_taken_for_none(host, monkeypatch):
    prompt = {"7": {"inputs": {"timing": "from the future"}}}
    node = host.nodes["RIFEInterpolate"]
    monkeypatch.setattr(node, "hidden", SimpleNamespace(prompt=prompt, unique_id="7"))
    with pytest.raises(ValueError, match="from the future"):
        interpolated(host, Blend(), moving())


# interpolating


def test_the_node_gives_what_the_core_gives(host, model, checkpoint):
    frames = clip()
    images, fps, count, *_ = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=4, fps=8.0
    )
    expected = rife.interpolate(rife.load_model(checkpoint, device="cpu"), frames, 4)
    assert torch.equal(images, expected)
    assert (fps, count) == (32.0, 9) and images.is_contiguous()
    assert torch.equal(images[::4], frames)


def test_timesteps_replace_the_multiplier(host, model):
    frames = clip(2)
    by_time = host.run(
        "RIFEInterpolate", interp_model=model, images=frames, multiplier=9, timesteps="1/4 .5; 0.75"
    )
    by_multiplier = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=4)
    assert torch.equal(by_time[0], by_multiplier[0]) and by_time[1:3] == (96.0, 5)


@pytest.mark.parametrize("text", ["half", "0, 0.5", "0.5, 0.5", "1/0", "nan"])
def test_wrong_timesteps_are_refused(host, model, text):
    with pytest.raises(ValueError, match="timesteps"):
        host.run("RIFEInterpolate", interp_model=model, images=clip(2), multiplier=2, timesteps=text)


@pytest.mark.parametrize(
    "frames",
    [clip(1), clip(2, 33, 41), clip(2, 5, 3), clip(2, 1, 1), clip(2, 40, 40, 4), clip(2, 40, 40, 1)],
    ids=["one", "odd", "tiny", "pixel", "rgba", "grey"],
)
@pytest.mark.parametrize("kind", ["ours", "native", "film"])
def test_every_shape_of_clip_runs(host, model, frames, kind):
    patcher = {"ours": lambda: model, "native": lambda: native(Blend()), "film": lambda: native(Film())}[
        kind
    ]()
    images, _, count, *_ = host.run("RIFEInterpolate", interp_model=patcher, images=frames, multiplier=2)
    assert images.shape == (2 * len(frames) - 1, *frames.shape[1:]) and count == len(images)
    assert torch.equal(images[::2], frames) and 0 <= images.min() and images.max() <= 1
    if kind != "ours" and len(frames) == 2:
        torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)


def test_half_and_scattered_clips_give_the_intermediate_dtype(host, model):
    frames = clip(3).half().permute(0, 2, 1, 3)
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert images.dtype == torch.float32 and images.is_contiguous()
    host.intermediate_dtype = torch.float16
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert images.dtype == torch.float16 and torch.equal(images[::2], frames)


def test_neither_the_clip_nor_the_weights_are_changed(host, model):
    frames = clip()
    kept, weights = frames.clone(), {k: v.clone() for k, v in model.model.state_dict().items()}
    host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert torch.equal(frames, kept)
    assert all(torch.equal(v, weights[k]) for k, v in model.model.state_dict().items())


def test_one_frame_or_multiplier_one_loads_no_model(host, model):
    frames = clip()
    assert torch.equal(
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=1)[0], frames
    )
    assert host.run("RIFEInterpolate", interp_model=model, images=frames[:1], multiplier=8)[2] == 1
    assert not host.loads


@pytest.mark.parametrize(
    "frames", [torch.zeros(0, 8, 8, 3), torch.zeros(2, 8, 8), torch.zeros(2, 8, 8, 2), None]
)
def test_no_or_wrong_images_are_refused_before_any_work(host, model, frames):
    with pytest.raises(ValueError, match="expected images"):
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)
    assert not host.loads


def test_something_that_is_no_model_is_refused(host):
    with pytest.raises(ValueError, match="Load RIFE Checkpoint"):
        host.run("RIFEInterpolate", interp_model=object(), images=clip(2), multiplier=2)
    with pytest.raises(ValueError, match="Patcher of Conv2d"):
        host.run("RIFEInterpolate", interp_model=native(nn.Conv2d(1, 1, 1)), images=clip(2), multiplier=2)


# memory, progress, cancel


def test_memory_is_asked_for_the_frames_of_one_pass(host, model):
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=3)
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=1)
    three, one = (load.memory for load in host.loads)
    assert 4 * one > three > 3 * one > 3 * 40 * 56 * 4 * 20  # in a batch, frames are put together besides


def test_batches_follow_the_memory_that_is_there(host, model):
    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    model.load_device = torch.device("meta")  # any that is not the CPU
    per_frame = memory.adapt(model).memory_estimate(480, 720)
    host.free_memory = host.total_memory = 100 * per_frame
    assert memory.load(model, 480, 720, wanted=100)[1] == 24
    host.free_memory = 5 * per_frame
    assert memory.load(model, 480, 720, wanted=100)[1] == 4
    host.total_memory = 0
    assert memory.load(model, 480, 720, wanted=100)[1] == 1
    assert memory.load(model, 480, 720, wanted=7, auto=False)[1] == 7


def test_memory_is_asked_for_what_the_options_cost(host, model):
    run = {"interp_model": model, "images": clip(3), "multiplier": 2}
    for more in ({}, {"tta": True}, {"ensemble": True}, {"scale": "2.0"}, {"mask": torch.ones(3, 40, 56)}):
        host.run("RIFEInterpolate", **run, **more)
    plain, *others = (load.memory for load in host.loads)
    assert all(other > plain for other in others)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing_else(host, model, monkeypatch):
    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    frames, batches = clip(6), []
    expected = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)[0]
    between = memory.adapt(model).__class__.between

    def tight(self, source0, *args, **kwargs):
        batches.append(len(source0))
        if len(source0) > 2:
            raise torch.OutOfMemoryError("too big")
        return between(self, source0, *args, **kwargs)

    monkeypatch.setattr(memory.adapt(model).__class__, "between", tight)
    images, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, batch_size=5)
    assert batches == [5, 2, 2, 1] and host.emptied == 1
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), RuntimeError("MPS backend out of memory")])
def test_one_frame_that_does_not_fit_says_what_to_do(host, error):
    class Big(Blend):
        def forward(self, *args, **kwargs):
            raise error

    with pytest.raises(RuntimeError, match="Not enough memory for one new frame of 56x40"):
        host.run("RIFEInterpolate", interp_model=native(Big()), images=clip(2), multiplier=2)


def test_a_result_that_does_not_fit_names_its_size(host, model, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    monkeypatch.setattr(memory.torch, "empty", refuse)
    with pytest.raises(RuntimeError, match="result of 1000 frames of 1920x1080 takes 24.9 GB"):
        memory.empty_images((1000, 1080, 1920, 3))


def test_progress_counts_new_frames_and_shows_a_picture_now_and_then(host, model, monkeypatch):
    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(clock))
    host.run("RIFEInterpolate", interp_model=model, images=clip(4), multiplier=2, batch_size=1)
    assert [(done, total) for done, total, _ in host.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert host.progress[0][2] is None
    kind, picture, side = host.progress[-1][2]
    assert (kind, picture.mode, picture.size, side) == ("JPEG", "RGB", (56, 40), 512)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_previews_of_any_frame_are_small_rgb(host, channels):
    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    picture = memory.to_picture(torch.full((1080, 2048, channels), 0.5))
    assert (
        picture.mode == "RGB" and picture.size == (512, 270) and picture.getpixel((0, 0)) == (128, 128, 128)
    )


def test_cancel_stops_at_the_next_pass_and_the_next_run_is_whole(host, model):
    frames = clip(6)
    host.cancel_after = len(frames) + 2  # each is looked at for cuts, then the passes begin
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2, batch_size=1)
    assert host.progress[-1][0] == 1
    host.cancel_after = None
    assert host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=2)[2] == 11


def test_a_partial_load_leaves_no_weight_behind_that_nobody_would_bring(host, model):
    memory = sys.modules[stand_in.PACK + ".nodes.memory"]
    host.novram = True
    model.load_device = torch.device("meta")
    memory.load(model, 64, 64)
    assert {p.device.type for p in model.model.parameters()} == {"meta"}
    theirs = native(Blend())
    theirs.load_device = torch.device("meta")
    memory.load(theirs, 64, 64)
    assert theirs.model.beta.device.type == "meta"
    assert theirs.model.conv.weight.device.type == "cpu"  # brought at each call


def test_strays_move_when_comfyuis_own_node_loads_our_model(host, model):
    host.novram = True
    model.load_device = torch.device("meta")
    host.load_models_gpu([model])
    assert {p.device.type for p in model.model.parameters()} == {"meta"}


# models from ComfyUI's loader


def test_comfyuis_rife_gets_every_pair_and_time_in_one_batch(host):
    network, frames = Blend(), clip(3)
    images, *_ = host.run(
        "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=4, batch_size=6
    )
    assert network.calls == [6]
    for i, t in enumerate([0, 0.25, 0.5, 0.75]):
        torch.testing.assert_close(images[4 + i], torch.lerp(frames[1], frames[2], t), atol=1e-6, rtol=0)


def test_film_gets_all_times_of_a_pair_at_once_and_each_frame_is_encoded_once(host):
    network, frames = Film(), clip(3, 70, 66)
    images, *_ = host.run(
        "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=4, batch_size=6
    )
    assert network.pairs == [[0.25, 0.5, 0.75]] * 2 and network.extracted == 3
    torch.testing.assert_close(images[2], frames[:2].mean(0), atol=1e-6, rtol=0)


def test_alpha_of_comfyuis_models_moves_with_the_colours(host):
    frames = clip(2, c=4)
    images, *_ = host.run("RIFEInterpolate", interp_model=native(Blend()), images=frames, multiplier=2)
    torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)


def test_tta_and_ensemble_work_with_comfyuis_models_and_scale_is_refused(host):
    frames, network = clip(2), Blend()
    for option in ("tta", "ensemble"):
        network.calls.clear()
        images, *_ = host.run(
            "RIFEInterpolate", interp_model=native(network), images=frames, multiplier=2, **{option: True}
        )
        assert network.calls == [1, 1]
        torch.testing.assert_close(images[1], frames.mean(0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="Load RIFE Checkpoint for it"):
        host.run("RIFEInterpolate", interp_model=native(network), images=frames, multiplier=2, scale="0.5")


# one frame between two


def test_inbetween_gives_the_frame_at_its_time(host, model):
    frames = clip(2)
    (image,) = host.run(
        "RIFEInbetween", interp_model=model, image0=frames[:1], image1=frames[1:], timestep=0.25
    )
    whole, *_ = host.run("RIFEInterpolate", interp_model=model, images=frames, multiplier=4)
    torch.testing.assert_close(image[0], whole[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("timestep", [0.0, 1.0])
def test_inbetween_at_either_end_gives_the_image_itself(host, model, timestep):
    frames = clip(2)
    (image,) = host.run(
        "RIFEInbetween", interp_model=model, image0=frames[:1], image1=frames[1:], timestep=timestep
    )
    assert torch.equal(image[0], frames[int(timestep)]) and not host.loads


def test_inbetween_takes_batches_pair_by_pair_and_one_image_for_all(host):
    a, b = clip(3), clip(3).flip(0)
    (images,) = host.run("RIFEInbetween", interp_model=native(Blend()), image0=a, image1=b, timestep=0.5)
    torch.testing.assert_close(images, (a + b) / 2, atol=1e-6, rtol=0)
    (images,) = host.run("RIFEInbetween", interp_model=native(Blend()), image0=a[:1], image1=b, timestep=0.5)
    torch.testing.assert_close(images, (a[:1] + b) / 2, atol=1e-6, rtol=0)
    assert [(done, total) for done, total, _ in host.progress[-2:]] == [(2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("a", "b"), [((2, 8, 8, 3), (3, 8, 8, 3)), ((1, 8, 8, 3), (1, 8, 9, 3)), ((1, 8, 8, 3), (1, 8, 8, 4))]
)
def test_inbetween_refuses_images_that_do_not_fit(host, model, a, b):
    with pytest.raises(ValueError, match="image0 is .* expected the same size"):
        host.run(
            "RIFEInbetween", interp_model=model, image0=torch.zeros(a), image1=torch.zeros(b), timestep=0.5
        )
    with pytest.raises(ValueError, match="timestep is 1.5"):
        host.run("RIFEInbetween", interp_model=model, image0=clip(1), image1=clip(1), timestep=1.5)


def test_the_loader_says_what_it_loaded_and_how_it_knows(host):
    output = host.nodes["RIFECheckpointLoader"].execute("rife_comfy (bundled)")
    (text,) = output.ui["text"]
    assert "own training" in text and "metadata" in text


def test_a_node_says_in_a_line_what_it_did(host, model):
    host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=4, fps=8.0)
    loaded, made = host.lines
    assert loaded[0] == "RIFE own training, decided by the file's metadata" and loaded[1] == "7"
    assert made[0].startswith("3 → 9 frames, 32 fps, 0.28 s; took ") and made[1] == "7"


def test_the_line_counts_cuts(host, model):
    host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=2, cut_frames="1")
    assert ", 1 cut; took " in host.lines[-1][0]


def test_where_no_rate_is_known_the_line_is_silent_about_it(host):
    line = host.module("nodes.timing").result_line
    assert line(9, 17, 1.24) == "9 → 17 frames; took 1.2 s"


def test_comfyuis_models_of_020_which_do_not_say_what_they_need_work_too(host):
    class Silent(Blend):
        memory_used_forward = property()  # hasattr says no

    net = Silent()
    patcher = stand_in.Patcher(net, torch.device("cpu"), torch.device("cpu"))
    result = host.run("RIFEInterpolate", interp_model=patcher, images=clip(2, 64, 64), multiplier=2)[0]
    assert len(result) == 3 and host.loads[-1].memory == 300 * 64 * 64 * 4
