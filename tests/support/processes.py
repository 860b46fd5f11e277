"""Processes that tests start. On Linux they come from one that has imported PyTorch already, which takes seconds."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
if sys.platform == "linux":
    CONTEXT.set_forkserver_preload(["torch", "av", "numpy", "safetensors", "einops"])


def start(work: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Does the work, a function of a module of this folder, in a process with one thread."""
    process = CONTEXT.Process(target=_with_one_thread, args=(work, *arguments))
    process.start()
    return process


def launch(work: Callable[..., Any], processes: int, restarts: int, folder: Path, *arguments: Any) -> None:
    """Does what torchrun does, in a process that `start` made: it takes over signals."""
    from torch.distributed.launcher.api import DefaultLogsSpecs, LaunchConfig, elastic_launch

    config = LaunchConfig(
        1, 1, processes, run_id="tests", rdzv_backend="c10d", rdzv_endpoint="localhost:0", monitor_interval=0.1,
        max_restarts=restarts, start_method="fork" if sys.platform == "linux" else "spawn",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )  # fmt: skip
    elastic_launch(config, _with_one_thread)(work, *arguments)


def _with_one_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    return work(*arguments)
