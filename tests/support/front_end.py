"""ComfyUI's own front end in a headless Chromium, for tests and for the scripts of `tools/`.

`chromium_or_reason` says where there is none; `open_page` gives a `Page` on a running server.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
).split()
SIZE = {"width": 2200, "height": 1300}  # smaller, and the front end leaves out the text of whole graphs
# A loaded machine with two cores draws one frame in a second or two.
PATIENCE_MS = 60_000
NODES_2 = os.environ.get("COMFYUI_NODES") == "2.0"  # else the classic canvas


def chromium_or_reason() -> Path | str:
    """The browser's path, or why there is none."""
    if importlib.util.find_spec("playwright") is None:
        return 'no playwright: pip install -e ".[browser]"'
    named = os.environ.get("CHROMIUM_PATH")
    found = named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
    )
    if not found or not Path(found).is_file():
        return f"no Chromium at {found or 'PATH'}: install it (Debian: chromium) or set CHROMIUM_PATH"
    return Path(found)


@contextmanager
def browser(chromium: Path) -> Iterator:
    """A running Chromium; nothing of it is left behind."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=str(chromium), args=FLAGS)
        try:
            yield running
        finally:
            running.close()


class Page:
    """A window on ComfyUI: what a user does in it, and what its console said."""

    def __init__(self, browser, server, settings: dict | None = None):
        # Kept by the server, for everybody who opens it: no first-steps dialog in front of the graph.
        usual = {
            "Comfy.TutorialCompleted": True,
            "Comfy.Locale": "en",
            "Comfy.VueNodes.Enabled": NODES_2,
            # The panel that an error opened stays open in every window from then on.
            "Comfy.RightSidePanel.IsOpen": False,
        }
        server.post("/settings", {**usual, **(settings or {})})
        self.page = browser.new_page(viewport=SIZE)
        self.page.set_default_timeout(PATIENCE_MS)
        self.console: list[str] = []
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("console", lambda m: self.console.append(m.text) if m.type == "error" else None)
        self.page.goto(f"http://127.0.0.1:{server.port}/")
        # Last of what the front end does at its start is the workflow that it shows first.
        self.page.wait_for_function(
            "window.app?.graph?.nodes?.length > 0 && app.extensionManager?.workflow?.activeWorkflow"
        )
        self.new()

    def js(self, script: str, *arguments):
        """What a function says in the page; `app` is ComfyUI's."""
        return self.page.evaluate(script, *arguments)

    def command(self, name: str) -> None:
        """One of the front end's commands, as menus and keys run them."""
        self.js("name => app.extensionManager.command.execute(name)", name)

    def load(self, workflow: dict, name: str = "test") -> None:
        """A workflow, as when its file is dropped on the graph, in view."""
        self.js("([graph, name]) => app.loadGraphData(graph, true, true, name)", [workflow, name])
        self.fit()

    def new(self) -> None:
        """An empty workflow in a tab of its own, as a user opens one.

        Not `app.graph.clear()`: that gives the graph its first number again, by which front ends as of 1.42 to 1.45
        take the hooks off it that bring Nodes 2.0 up to date, and what was cleared stays in sight.
        """
        self.command("Comfy.NewBlankWorkflow")
        self.page.wait_for_function(
            "() => !app.graph.nodes.length && !document.querySelector('[data-node-id]')"
        )

    def fit(self) -> None:
        """Brings the whole graph into view."""
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(600)  # it glides there

    def node(self, kind: str, what: str):
        """An expression in `node`, the first node of a kind."""
        return self.js(
            f"kind => {{ const node = app.graph.nodes.find(n => n.type === kind); return {what} }}", kind
        )

    def wait_for_node(self, kind: str, what: str) -> None:
        """Until the expression holds."""
        script = f"kind => {{ const node = app.graph.nodes.find(n => n.type === kind); return {what} }}"
        self.page.wait_for_function(script, arg=kind)

    def wait_for_picture(self, kind: str, count: int = 1) -> None:
        """Until every node of a kind shows as many pictures."""
        self.page.wait_for_function(
            """([kind, count]) => app.graph.nodes.filter(n => n.type === kind).every(node => {
              const drawn = document.querySelector(`[data-node-id="${node.id}"]`)
              const shown = drawn ? drawn.querySelectorAll("img") : node.imgs ?? []
              const seen = [...shown].filter(i => i.naturalWidth > 0)
              return seen.length >= count
            })""",
            arg=[kind, count],
        )

    def add(self, kind: str) -> None:
        """A new node alone on the graph, selected by a click on its title."""
        self.new()
        self.js(
            """kind => {
              const node = LiteGraph.createNode(kind)
              app.graph.add(node)
              node.pos = [400, 200]
            }""",
            kind,
        )
        self.page.wait_for_function(
            "() => !LiteGraph.vueNodesMode || document.querySelector('[data-node-id] [data-testid^=node-body]')"
        )
        self.page.wait_for_timeout(200)  # it is drawn
        self.page.mouse.click(*self.at(kind, 60, -15))
        self.page.mouse.move(*self.at(kind, -100, -60))  # no tooltip in the way

    def at(self, kind: str, x: float, y: float) -> tuple[float, float]:
        """Where a place of the first node of a kind, from its upper left corner, is in the window."""
        return self.js(
            """([kind, x, y]) => {
              const node = app.graph.nodes.find(n => n.type === kind)
              const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
              return [box.x + (node.pos[0] + x + offset[0]) * scale, box.y + (node.pos[1] + y + offset[1]) * scale]
            }""",
            [kind, x, y],
        )

    def slot(self, kind: str, side: str, name: str) -> tuple[float, float]:
        """Where a slot of the first node of a kind is in the window, once it rests there; side: in or out."""
        before, at = None, self._slot(kind, side, name)
        while at != before:
            self.page.wait_for_timeout(500)
            before, at = at, self._slot(kind, side, name)
        return at

    def _slot(self, kind: str, side: str, name: str) -> tuple[float, float]:
        return self.js(
            """([kind, side, name]) => {
              const node = app.graph.nodes.find(n => n.type === kind)
              const at = (side === 'out' ? node.outputs : node.inputs).findIndex(s => s.name === name)
              const dot = document.querySelector(`[data-slot-key="${node.id}-${side}-${at}"]`)
              if (dot) {
                const box = (dot.querySelector('.slot-dot') ?? dot).getBoundingClientRect()
                return [box.x + box.width / 2, box.y + box.height / 2]
              }
              const [x, y] = node.getConnectionPos(side === 'in', at)
              const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
              return [box.x + (x + offset[0]) * scale, box.y + (y + offset[1]) * scale]
            }""",
            [kind, side, name],
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the mouse, as a hand does: some steps, a moment of rest before letting go."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=8)
        mouse.move(*end, steps=8)
        self.page.wait_for_timeout(300)
        mouse.up()

    def choose(self, kind: str, name: str, value: str) -> None:
        """An entry of a combo on a node, with the mouse."""
        if NODES_2:
            widget = self.page.get_by_test_id("node-widget").filter(
                has=self.page.get_by_text(name, exact=True)
            )
            widget.get_by_role("combobox").first.click()
            self.page.get_by_role("option").get_by_text(value, exact=True).click()
            return
        y = self.node(kind, f"node.widgets.find(w => w.name === '{name}').y")
        self.page.mouse.click(*self.at(kind, 150, y + 10))
        self.page.locator(".litemenu-entry", has_text=value).click()

    def run(self) -> None:
        """The Run button."""
        self.page.get_by_test_id("queue-button").click()

    def picture(self, path: Path) -> Path:
        """A screenshot."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        return path

    def close(self) -> None:
        """Closes the window."""
        self.page.close()


@contextmanager
def open_page(browser, server, settings: dict | None = None) -> Iterator[Page]:
    """A fresh window that is closed afterwards."""
    page = Page(browser, server, settings)
    try:
        yield page
    finally:
        page.close()
