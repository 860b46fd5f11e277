"""A real ComfyUI server on the CPU, with this project as its only custom node, and a small client for it.

Test modules that want it say `pytest_plugins = ["comfyui_server"]`: then all of them share one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from find_comfyui import comfyui_or_reason
from web import Web

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_START = 300  # where two cores are shared by many


def node(class_type: str, **inputs) -> dict:
    """One node of an API-format workflow."""
    return {"class_type": class_type, "inputs": inputs}


class Server:
    """Starts on entering, stops on leaving; `log` is all that it wrote.

    hub: for huggingface.co. packs: folders of other packs, which are copied: some write into themselves.
    """

    def __init__(
        self, comfyui: Path, python: str, base: Path, hub: Web | None = None, packs: Sequence[Path] = ()
    ):
        self.base, self.hub = base, hub
        for folder in ("custom_nodes", "input", "output", "models/frame_interpolation"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        # A link, so that the server runs what is being worked on; named as users' clones are.
        os.symlink(ROOT, base / "custom_nodes" / "ComfyUI-RIFE", target_is_directory=True)
        # ComfyUI's own tests have loops; its releases before 0.26 have none.
        self.testing_pack = comfyui / "tests" / "execution" / "testing_nodes" / "testing-pack"
        if self.testing_pack.is_dir():
            os.symlink(self.testing_pack, base / "custom_nodes" / "testing-pack", target_is_directory=True)
        for pack in packs:
            ignored = shutil.ignore_patterns(".git", "__pycache__")
            shutil.copytree(pack, base / "custom_nodes" / pack.name, ignore=ignored)
        self._furnish()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(base), "--database-url", "sqlite:///:memory:",
            "--disable-api-nodes", "--disable-auto-launch",
            "--extra-model-paths-config", str(base / "extra_model_paths.yaml"),
        ]  # fmt: skip
        # Another front end than the one that came with this ComfyUI: the folder `static` of its package.
        if root := os.environ.get("COMFYUI_FRONT_END"):
            self._command += ["--front-end-root", root]
        self._comfyui = comfyui
        self._log = base / "server.log"

    def _furnish(self) -> None:
        """Another drive, named in extra_model_paths.yaml, and the pack that many have beside this one."""
        lines = (
            "elsewhere:",
            f"  base_path: {self.base / 'drive'}",
            "  frame_interpolation: interp",
            "  rife: rifes",
        )
        (self.base / "extra_model_paths.yaml").write_text("\n".join(lines), encoding="utf-8")
        self.other_pack = self.base / "custom_nodes" / "ComfyUI-Frame-Interpolation"
        if not self.other_pack.is_dir():
            self.other_pack.mkdir()
            (self.other_pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Server:
        with open(self._log, "wb") as log:
            # One thread: tensors this small only wait for each other's.
            self._process = subprocess.Popen(
                self._command,
                cwd=self._comfyui,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", **self._hub_environment()},
            )
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError(f"ComfyUI did not start within {SECONDS_TO_START} s:\n{self.log[-4000:]}")

    def _hub_environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.hub.url} if self.hub else {}

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def get(self, path: str, raw: bool = False):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            data = answer.read()
        return data if raw else json.loads(data)

    def post(self, path: str, values: dict | None = None) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(values or {}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                data, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            data, status = error.read(), error.code
        return status, json.loads(data) if data else {}

    def queue(self, prompt: dict) -> str:
        """Starts an API-format workflow; its id. AssertionError if it does not validate."""
        status, answer = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        assert status == 200, json.dumps(answer, indent=1)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 120) -> dict:
        """Its history entry, once it has ended in whatever way."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            time.sleep(0.1)
        raise AssertionError(f"not done after {seconds} s:\n{self.log[-3000:]}")

    def run(self, prompt: dict, seconds: float = 300) -> dict[str, dict]:
        """The outputs of a workflow by node id. AssertionError if it does not end well."""
        entry = self.wait(self.queue(prompt), seconds)
        # The message names the inputs' tensors in full: what went wrong comes first.
        error = self.events(entry).get("execution_error", {})
        why = f"{error.get('exception_message')}\n{''.join(error.get('traceback', []))}"
        assert entry["status"]["status_str"] == "success", why[:4000]
        return entry["outputs"]

    @staticmethod
    def events(entry: dict) -> dict[str, dict]:
        """What happened in a history entry: event -> its data."""
        return dict(entry["status"]["messages"])

    def file(self, saved: dict) -> bytes:
        """A file that an output names."""
        return self.get("/view?" + urllib.parse.urlencode(saved), raw=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """A running server, the same for the whole session. Skips, loudly, where there is no ComfyUI."""
    found = comfyui_or_reason()
    if isinstance(found, str):
        warnings.warn(f"Not tested in a real ComfyUI server: {found}", stacklevel=1)
        pytest.skip(found)
    with Web().running() as hub, Server(*found, tmp_path_factory.mktemp("comfyui"), hub) as running:
        yield running
