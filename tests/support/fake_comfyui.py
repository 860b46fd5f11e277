"""A stand-in for ComfyUI: as much of it as the nodes touch, so that they run where there is no ComfyUI.

`test_host_surface.py` holds every name and keyword that the nodes use against the real one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from used_names import MODULES

ROOT = Path(__file__).resolve().parents[2]
PACK = "/somewhere/custom_nodes/ComfyUI-RIFE"  # ComfyUI registers a pack under its path, hyphens and all


class InterruptProcessingException(BaseException):
    """What ComfyUI raises when the user cancels: not an Exception since 0.20."""


class ComfyOps(torch.nn.Conv2d):
    """A layer that brings its weights at each call, as comfy.ops do: a partial load may leave it behind."""

    comfy_cast_weights = True


class Patcher:
    """ComfyUI's ModelPatcher, as far as loading goes."""

    def __init__(self, model, load_device, offload_device, size=0):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.cached_patcher_init = None
        self.callbacks: dict[str, list] = {}
        self.attachments: dict = {}
        model.device = offload_device

    def add_callback(self, call_type, callback):
        self.callbacks.setdefault(call_type, []).append(callback)

    def set_attachments(self, key, attachment):
        self.attachments[key] = attachment

    def get_attachment(self, key):
        return self.attachments.get(key)

    def model_dtype(self):
        return self.model.get_dtype()


class Host:
    """The fake modules, what the nodes did to them, and switches for what ComfyUI may be set to."""

    def __init__(self, models_dir: Path):
        self.models_dir = Path(models_dir)
        self.device = torch.device("cpu")
        self.intermediate_dtype = torch.float32
        self.half = False  # whether the device is good at fp16
        self.bf16 = False
        self.novram = False
        self.free_memory = self.total_memory = 8 << 30
        self.tiles = []  # width, height and overlap of each tiled_scale
        self.cancel_after: int | None = None  # progress calls; from there on all
        self.cancel_at: int | None = None  # that one call, as one press of the button
        self.loads: list[SimpleNamespace] = []
        self.progress: list[tuple] = []
        self.lines: list[tuple[str, str, str]] = []  # (text, node, client) on nodes' faces
        self.sent: list[tuple[str, dict, str]] = []  # (event, data, client) to browsers
        self.emptied = 0
        self.freed: list[tuple] = []
        self.checks = 0
        self.modules = self._build()

    def check_cancel(self):
        self.checks += 1
        after, at = self.cancel_after, self.cancel_at
        if (after is not None and self.checks > after) or self.checks == at:
            raise InterruptProcessingException()

    def load_models_gpu(self, models, memory_required=0, force_full_load=False):
        for patcher in models:
            self.loads.append(SimpleNamespace(patcher=patcher, memory=memory_required))
            if not self.novram:
                patcher.model.to(patcher.load_device)
            for callback in patcher.callbacks.get("on_load_after", []):
                callback(patcher, patcher.load_device, 0, False, force_full_load)

    def _build(self) -> dict[str, ModuleType]:
        host = self

        class ProgressBar:
            def __init__(self, total, node_id=None):
                self.total = total

            def update_absolute(self, value, total=None, preview=None):
                host.progress.append((value, total, preview))

        def tiled_scale(samples, function, tile_x, tile_y, overlap, upscale_amount, output_device):
            host.tiles.append((tile_x, tile_y, overlap))
            made = function(samples[:, :, :tile_y, :tile_x])
            assert made.shape[-1] == upscale_amount * min(tile_x, samples.shape[-1])
            return function(samples).to(output_device)

        def empty_cache():
            host.emptied += 1

        comfy = _module("comfy")
        comfy.model_management = _module(
            "comfy.model_management",
            get_torch_device=lambda: host.device,
            unet_offload_device=lambda: torch.device("cpu"),
            intermediate_device=lambda: torch.device("cpu"),
            intermediate_dtype=lambda: host.intermediate_dtype,
            should_use_fp16=lambda device=None: host.half,
            should_use_bf16=lambda device=None: host.bf16,
            load_models_gpu=self.load_models_gpu,
            free_memory=lambda memory_required, device: self.freed.append((memory_required, device)),
            get_free_memory=lambda dev=None: host.free_memory,
            get_total_memory=lambda dev=None: host.total_memory,
            soft_empty_cache=empty_cache,
            module_size=lambda module: sum(x.numel() * x.element_size() for x in module.parameters()),
            is_oom=lambda error: isinstance(error, torch.OutOfMemoryError),
            throw_exception_if_processing_interrupted=self.check_cancel,
            InterruptProcessingException=InterruptProcessingException,
        )
        comfy.model_patcher = _module("comfy.model_patcher", CoreModelPatcher=Patcher, ModelPatcher=Patcher)
        comfy.patcher_extension = _module(
            "comfy.patcher_extension", CallbacksMP=SimpleNamespace(ON_LOAD="on_load_after")
        )
        comfy.utils = _module("comfy.utils", ProgressBar=ProgressBar, tiled_scale=tiled_scale)
        ui = _module("comfy_api.latest.ui", PreviewText=lambda value: {"text": (value,)})
        self.replacements = []

        async def register(replacement):
            host.replacements.append(replacement)

        latest = _module(
            "comfy_api.latest",
            io=_io(),
            ui=ui,
            InputImpl=_input_impl(),
            Types=SimpleNamespace(VideoComponents=SimpleNamespace),
            ComfyExtension=type("ComfyExtension", (), {}),
            ComfyAPI=lambda: SimpleNamespace(node_replacement=SimpleNamespace(register=register)),
        )
        api = _module("comfy_api", latest=latest)
        running = SimpleNamespace(node_id="7", prompt_id="job")
        execution = _module("comfy_execution")
        execution.utils = _module("comfy_execution.utils", get_executing_context=lambda: running)
        browsers = SimpleNamespace(
            client_id="browser",
            send_progress_text=lambda text, node_id, sid=None: host.lines.append((text, node_id, sid)),
            send_sync=lambda event, data, sid=None: host.sent.append((event, data, sid)),
        )
        execution.graph_utils = _module(
            "comfy_execution.graph_utils",
            ExecutionBlocker=type(
                "ExecutionBlocker", (), {"__init__": lambda self, m: vars(self).update(message=m)}
            ),
        )
        host.server = browsers
        # Of ComfyUI itself: what it has loaded before our pack.
        host.known = {}
        loaded = _module("nodes", NODE_CLASS_MAPPINGS=host.known)
        server = _module("server", PromptServer=SimpleNamespace(instance=browsers))
        found = [
            execution,
            execution.utils,
            execution.graph_utils,
            loaded,
            server,
            comfy,
            comfy.model_management,
            comfy.model_patcher,
            comfy.patcher_extension,
            comfy.utils,
            api,
            latest,
        ]
        return {module.__name__: module for module in [*found, self._folder_paths()]}

    def _folder_paths(self) -> ModuleType:
        extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
        folders = {
            "frame_interpolation": ([str(self.models_dir / "frame_interpolation")], extensions),
            "custom_nodes": ([str(self.models_dir / "custom_nodes")], set()),
        }

        def add(folder_name, full_folder_path, is_default=False):
            paths, _ = folders.setdefault(folder_name, ([], set()))
            if full_folder_path not in paths:
                paths.append(full_folder_path)

        def names(folder_name):
            paths, allowed = folders[folder_name]
            files = [(p, f) for p in paths for f in Path(p).rglob("*") if f.is_file()]
            return sorted({str(f.relative_to(p)) for p, f in files if not allowed or f.suffix in allowed})

        def full(folder_name, filename):
            found = [Path(p) / filename for p in folders[folder_name][0]]
            return next((str(f) for f in found if f.is_file()), None)

        def save_path(filename_prefix, output_dir):
            folder, name = Path(output_dir, filename_prefix).parent, Path(filename_prefix).name
            folder.mkdir(parents=True, exist_ok=True)
            taken = [int(f.name[len(name) + 1 :].split("_")[0]) for f in folder.glob(f"{name}_*")]
            counter = max(taken, default=0) + 1
            return str(folder), name, counter, str(Path(filename_prefix).parent), filename_prefix

        return _module(
            "folder_paths",
            models_dir=str(self.models_dir),
            get_output_directory=lambda: str(self.models_dir / "output"),
            get_input_directory=lambda: str(self.models_dir / "input"),
            get_temp_directory=lambda: str(self.models_dir / "temp"),
            get_save_image_path=save_path,
            supported_pt_extensions=extensions,
            folder_names_and_paths=folders,
            add_model_folder_path=add,
            get_filename_list=names,
            get_full_path=full,
            get_folder_paths=lambda folder_name: folders[folder_name][0][:],
        )

    def load_pack(self) -> ModuleType:
        """The pack as ComfyUI loads it: under its path, then comfy_entrypoint, on_load, get_node_list."""
        spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
        pack = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = pack
        spec.loader.exec_module(pack)
        extension = asyncio.run(pack.comfy_entrypoint())
        asyncio.run(extension.on_load())
        self.nodes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
        return pack

    def module(self, name: str) -> ModuleType:
        """A module of the pack, such as "rife.model.model"."""
        return sys.modules[f"{PACK}.{name}"]

    def run(self, node_id: str, **inputs):
        """A node's results, in inference mode as ComfyUI runs it."""
        with torch.inference_mode():
            return self.nodes[node_id].execute(**inputs).args


def _module(name: str, **attributes) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module


def _input_impl() -> SimpleNamespace:
    class VideoFromFile:
        def __init__(self, file, *, start_time=0, duration=0):
            self.file, self.window = file, (start_time, duration)

        def get_stream_source(self):
            return self.file

        def get_active_trim_window(self):
            return self.window

    class VideoFromComponents:
        def __init__(self, components, bit_depth=8):
            self.components, self.bit_depth = components, bit_depth

        def get_components(self):
            return self.components

        def get_bit_depth(self):
            return self.bit_depth

    return SimpleNamespace(VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents)


def _io() -> SimpleNamespace:
    class Socket:
        def __init__(self, id=None, **options):
            self.id, self.options = id, options
            self.min, self.max = options.get("min"), options.get("max")

    class Schema:
        def __init__(self, node_id, inputs=(), outputs=(), **options):
            self.node_id, self.inputs, self.outputs, self.options = (
                node_id,
                list(inputs),
                list(outputs),
                options,
            )

    class NodeReplace(SimpleNamespace):
        def as_dict(self):
            return vars(self)

    class NodeOutput:
        def __init__(self, *args, ui=None):
            self.args, self.ui = args, ui

    def kind(name):
        sides = {side: type(side, (Socket,), {"io_type": name}) for side in ("Input", "Output")}
        return type(name, (), sides)

    kinds = {
        name: kind(name.upper())
        for name in ("Combo", "Int", "Float", "String", "Boolean", "Image", "Mask", "Video")
    }

    class Option:
        def __init__(self, key, inputs):
            self.key, self.inputs = key, inputs

    kinds["UpscaleModel"] = kind("UPSCALE_MODEL")
    kinds["DynamicCombo"] = kind("COMFY_DYNAMICCOMBO_V3")
    kinds["DynamicCombo"].Option = Option
    kinds["Autogrow"] = kind("COMFY_AUTOGROW_V3")
    kinds["Autogrow"].TemplatePrefix = type(
        "TemplatePrefix",
        (),
        {"__init__": lambda self, input, **options: vars(self).update(input=input, **options)},
    )
    kinds["MultiType"] = type(
        "MultiType", (), {"Input": type("Input", (Socket,), {"io_type": "IMAGE,VIDEO"})}
    )
    node = type("ComfyNode", (), {"hidden": None})
    hidden = SimpleNamespace(prompt="PROMPT", unique_id="UNIQUE_ID")
    return SimpleNamespace(
        Hidden=hidden,
        Custom=kind,
        ComfyNode=node,
        Schema=Schema,
        NodeOutput=NodeOutput,
        Input=Socket,
        NodeReplace=NodeReplace,
        Output=Socket,
        **kinds,
    )


def installed(models_dir: Path) -> Iterator[Host]:
    """Body of a fixture: a host with the pack in it; afterwards sys.modules is as before."""
    kept = dict(sys.modules)
    for name in [n for n in sys.modules if n.split(".")[0] in MODULES or n.startswith(PACK)]:
        del sys.modules[name]
    host = Host(models_dir)
    sys.modules.update(host.modules)
    try:
        host.pack = host.load_pack()
        yield host
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in MODULES or n.startswith(PACK)]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in kept.items() if n not in sys.modules})


def small_network(kind, config, channels: tuple[int, ...] = (32, 24, 16, 16, 16)):
    """An untrained IFNet of 4.26's shape, with flows of several pixels: fresh ones are next to none."""
    torch.manual_seed(0)
    network = kind(replace(config, family="custom", channels=channels)).eval()
    with torch.no_grad():
        for block in network.blocks:
            block.lastconv[0].weight.mul_(20)
    return network
