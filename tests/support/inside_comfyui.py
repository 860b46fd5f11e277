"""Runs in ComfyUI's own Python, without a server: what the nodes rely on, checked on the real thing.

Called by test_host_surface.py with ComfyUI's folder; prints one JSON object, check -> "ok" or what is wrong.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import logging
import os
import shutil
import sys
import tempfile
import traceback
import weakref
from pathlib import Path

COMFYUI = Path(sys.argv[1])
sys.path.insert(0, str(COMFYUI))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True

import torch  # noqa: E402

torch.set_num_threads(1)
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import folder_paths  # noqa: E402
import utils.extra_config  # noqa: E402, F401  (first, as in main.py: nodes.py of 0.20 puts comfy/utils.py before it)

FILES = Path(tempfile.mkdtemp())
folder_paths.models_dir = str(FILES)
folder_paths.folder_names_and_paths["frame_interpolation"][0].append(str(FILES / "frame_interpolation"))
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def load_helper(name):
    """tests/support/NAME.py by path: this folder must not be on ComfyUI's sys.path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


used_names = load_helper("used_names").used_names  # first: the stand-in wants it, too
host = load_helper("fake_comfyui")


def pack_module(name):
    return sys.modules[f"{host.PACK}.{name}"]


def load_nodes():
    pack = host.Host.load_pack(namespace := type("Loaded", (), {})())
    assert pack is not None
    return {node_id: node.GET_SCHEMA() and node for node_id, node in namespace.nodes.items()}


@check
def names_and_keywords():
    """Every name of ComfyUI in nodes/ exists there and takes the keywords that are passed."""
    wrong = []
    for dotted, keywords in used_names().items():
        try:
            value = resolve(dotted)
        except (ImportError, AttributeError) as error:
            wrong.append(f"{dotted}: {error}")
            continue
        if keywords:
            parameters = inspect.signature(value).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                wrong += [f"{dotted}({keyword}=)" for keyword in keywords - set(parameters)]
    assert not wrong, wrong


def resolve(dotted):
    parts = dotted.split(".")
    value, at = None, 0
    for end in range(1, len(parts) + 1):
        try:
            value, at = importlib.import_module(".".join(parts[:end])), end
        except ImportError:
            break
    if value is None:
        raise ImportError(f"no module {parts[0]}")
    for part in parts[at:]:
        value = getattr(value, part)
    return value


def small_checkpoint():
    """A RIFE of 4.26's shape with narrow blocks, which ComfyUI's own loader takes too."""
    config, ifnet, checkpoint = (
        pack_module(f"rife.{name}") for name in ("networks.config", "networks.ifnet", "checkpoint.save")
    )
    network = host.small_network(ifnet.IFNet, config.RELEASES["4.26"])
    return checkpoint.save_checkpoint(network, FILES / "frame_interpolation" / "small.safetensors")


def native_nodes():
    return importlib.import_module("comfy_extras.nodes_frame_interpolation")


def clip(n=3, h=72, w=88):
    return torch.rand(n, h, w, 3, generator=torch.Generator().manual_seed(2))


@check
def schemas_are_valid():
    for node_id, node in NODES.items():
        schema = node.GET_SCHEMA()
        schema.validate()
        assert schema.node_id == node_id


@check
def both_loaders_feed_both_nodes():
    with torch.inference_mode():
        ours = NODES["RIFECheckpointLoader"].execute("small.safetensors", precision="fp32").args[0]
        theirs = native_nodes().FrameInterpolationModelLoader.execute("small.safetensors").args[0]
        results = []
        for model in (ours, theirs):
            results.append(NODES["RIFEInterpolate"].execute(model, clip(), 4).args[0])
            results.append(native_nodes().FrameInterpolate.execute(model, clip(), 4).args[0])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=5e-5, rtol=0)
    assert isinstance(ours, comfy.model_patcher.ModelPatcher)


@check
def converted_files_load_in_comfyuis_own_loader_and_its_files_load_here():
    """Every release of five blocks, from the author's spelling, in every dtype; then back in ComfyUI's spelling."""
    config, ifnet, checkpoint, detection = (
        pack_module(f"rife.{name}")
        for name in ("networks.config", "networks.ifnet", "checkpoint.save", "checkpoint.detection")
    )
    folder = FILES / "frame_interpolation"
    for name in ("4.25", "4.25.lite", "4.25.heavy", "4.26", "4.26.heavy"):
        weights = ifnet.IFNet(config.RELEASES[name]).state_dict()
        official = {
            **{f"module.{k}": v for k, v in weights.items()},
            "module.teacher.conv0.0.0.weight": torch.ones(1),
        }
        torch.save(official, FILES / "flownet.pkl")
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            checkpoint.convert(FILES / "flownet.pkl", folder / "converted.safetensors", dtype)
            theirs = (
                native_nodes().FrameInterpolationModelLoader.execute("converted.safetensors").args[0].model
            )
            loaded = detection.clean_keys(theirs.state_dict())
            assert loaded.keys() == weights.keys()
            assert all(torch.equal(v.float(), weights[k].to(dtype).float()) for k, v in loaded.items()), (
                name,
                dtype,
            )
        spelled = theirs.state_dict()
        assert any(key.startswith("blocks.") for key in spelled)
        torch.save(spelled, folder / "native.pt")
        ours = NODES["RIFECheckpointLoader"].execute("native.pt").args[0].model
        assert name in ours.config.versions
        assert all(torch.equal(v, loaded[k].float()) for k, v in ours.state_dict().items())


@check
def two_loaders_share_one_files_weights_until_the_last_is_gone():
    with torch.inference_mode():
        first, second = (NODES["RIFECheckpointLoader"].execute("small.safetensors").args[0] for _ in range(2))
        NODES["RIFEInterpolate"].execute(second, clip(2), 2)
    assert first.model is second.model
    copy = first.clone()
    weight = weakref.ref(next(first.model.parameters()))
    del first, second
    gc.collect()
    assert weight() is not None
    del copy
    gc.collect()
    assert weight() is None


@check
def folders_are_walked_only_when_one_of_them_has_changed():
    """A walk over a network drive takes seconds."""
    walk, walked = os.walk, []
    os.walk = lambda *args, **options: walked.append(args) or walk(*args, **options)
    try:
        listed = pack_module("nodes.load").checkpoint_files
        listed()
        walked.clear()
        for _ in range(3):
            before = listed()
        assert walked == []
        shutil.copy(
            FILES / "frame_interpolation" / "small.safetensors", FILES / "frame_interpolation" / "new.pth"
        )
        assert listed().keys() - before.keys() == {"new.pth"} and walked
    finally:
        os.walk = walk


@check
def film_gives_what_comfyuis_node_gives():
    net = importlib.import_module("comfy_extras.frame_interpolation_models.film_net")
    torch.manual_seed(0)
    network = (
        net.FILMNet(filters=8, flow_filters=(8, 8, 8, 8)) if takes_widths(net.FILMNet) else net.FILMNet()
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.CoreModelPatcher(network.eval(), load_device=cpu, offload_device=cpu)
    with torch.inference_mode():
        expected = native_nodes().FrameInterpolate.execute(patcher, clip(), 3).args[0]
        ours = NODES["RIFEInterpolate"].execute(patcher, clip(), 3, batch_size=3).args[0]
        NODES["RIFEInterpolate"].execute(patcher, clip(2, 9, 7), 2)  # FILM alone cannot
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


def takes_widths(kind):
    return "filters" in inspect.signature(kind).parameters


@check
def a_partial_load_moves_every_weight_that_no_layer_brings():
    """As --novram does it, with the meta device in the GPU's place."""
    meta, cpu = torch.device("meta"), torch.device("cpu")
    with torch.inference_mode():
        ours = NODES["RIFECheckpointLoader"].execute("small.safetensors").args[0]
        ours.load_device = meta
        ours.partially_load(meta, 0.1)
        assert {p.device.type for p in ours.model.parameters()} == {"meta"}, "our weights stayed behind"

        theirs = native_nodes().FrameInterpolationModelLoader.execute("small.safetensors").args[0]
        theirs.partially_load(meta, 0.1)
        betas = [p for name, p in theirs.model.named_parameters() if name.endswith("beta")]
        assert betas and all(p.device == cpu for p in betas), (
            "ComfyUI moves beta itself now: drop move_unmanaged_weights"
        )
        pack_module("nodes.model_management").move_unmanaged_weights(theirs.model, meta)
        betas = [p for name, p in theirs.model.named_parameters() if name.endswith("beta")]
        assert all(p.device == meta for p in betas), "beta stayed behind"
        assert theirs.model.encode.cnn0.weight.device == cpu, (
            "comfy.ops layers bring their weights themselves"
        )


@check
def unloading_takes_all_weights_back():
    with torch.inference_mode():
        ours = NODES["RIFECheckpointLoader"].execute("small.safetensors").args[0]
        NODES["RIFEInterpolate"].execute(ours, clip(2), 2)
        comfy.model_management.unload_all_models()
        before = NODES["RIFEInterpolate"].execute(ours, clip(2), 2).args[0]
        again = ours.cached_patcher_init[0](*ours.cached_patcher_init[1], disable_dynamic=True)
        after = NODES["RIFEInterpolate"].execute(again, clip(2), 2).args[0]
    assert torch.equal(before, after)
    assert not any(p.is_inference() for p in ours.model.parameters())


@check
def cancel_travels_through_our_nodes():
    with torch.inference_mode():
        model = NODES["RIFECheckpointLoader"].execute("small.safetensors").args[0]
        comfy.model_management.interrupt_current_processing(True)
        try:
            NODES["RIFEInterpolate"].execute(model, clip(2), 2)
        except comfy.model_management.InterruptProcessingException:
            return
        finally:
            comfy.model_management.interrupt_current_processing(False)
    raise AssertionError("the node ran to its end")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    results = {}
    NODES = load_nodes()
    small_checkpoint()
    for name, function in CHECKS.items():
        try:
            function()
            results[name] = "ok"
        except Exception:  # noqa: BLE001 - every failure is a result
            results[name] = traceback.format_exc()
    print("RESULTS " + json.dumps(results))
