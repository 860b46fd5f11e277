"""Fixtures of the browser tests: one ComfyUI for all of them, one Chromium for each module; what they read from both.

Test modules that want them say `pytest_plugins = ["comfyui_server", "browser_tests"]`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings

import front_end
import pytest
from workflow_files import FOLDER, SUFFIX, template, write_clip, write_clips, write_images

PICTURES = FOLDER.parent / "tests" / "screenshots"
LARGE = {"width": 2880, "height": 1500}


@pytest.fixture(scope="session")
def new_pictures():
    if "PYTEST_XDIST_WORKER" not in os.environ:  # of several processes none takes away what another has seen
        shutil.rmtree(PICTURES, ignore_errors=True)


# Of a module, not of the session: while it runs, playwright keeps an event loop of its own in this thread, and every
# `asyncio.run` of a test that comes after would be refused.
@pytest.fixture(scope="module")
def chromium(new_pictures):
    found = front_end.chromium_or_reason()
    if isinstance(found, str):
        warnings.warn(f"Not tested in a browser: {found}", stacklevel=1)
        pytest.skip(found)
    with front_end.browser(found) as running:
        yield running


@pytest.fixture(scope="module")
def comfyui(server, chromium):
    """The server with the files that the workflows name."""
    write_clip(server.base / "input" / "clip.mp4", 12, 9)
    write_clips(server.base / "input")
    write_images(server.base / "input")
    return server


@pytest.fixture(scope="session")
def kinds(server):
    return server.get("/object_info")


@pytest.fixture
def page(chromium, comfyui):
    with front_end.open_page(chromium, comfyui) as opened:
        yield opened
        # What still runs, on a slow machine, is not waited for by the next test.
        comfyui.post("/queue", {"clear": True})
        comfyui.post("/interrupt")
        # The front end asks the registry about packs whose nodes fail; this server lets nothing out.
        ours = [text for text in opened.console if "rife" in text.lower() and "api.comfy.org" not in text]
        assert not ours, ours


@pytest.fixture(scope="module")
def shared(chromium, comfyui):
    """One window for tests that only load and look; large, since the front end leaves out small text."""
    with front_end.open_page(chromium, comfyui) as opened:
        opened.page.set_viewport_size(LARGE)
        yield opened


def graph(name: str) -> dict:
    return template(name.removesuffix(SUFFIX))


def last_run(server, after: int, seconds: float = 60) -> dict:
    """The history entry that comes after so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entries = list(server.get("/history").values())
        if len(entries) > after:
            return entries[-1]
        time.sleep(0.2)
    raise AssertionError(f"no run ended within {seconds} s")


def text_of(page, part: str, kind: str = "PreviewAny") -> str:
    """What a Preview as Text, or a node that works, shows, once that is in it; of a report its summary."""
    found = f"""() => app.graph.nodes.filter(n => n.type === {json.dumps(kind)}).flatMap(n => n.widgets ?? [])
        .map(w => String(w.value)).find(v => v.includes({json.dumps(part)})) ?? ''"""
    # In one go: what is there now may be another text a moment later. A run may take a while.
    text = page.page.wait_for_function(found, timeout=3 * front_end.PATIENCE_MS).json_value()
    return json.loads(text)["summary"] if text.startswith("{") else text
