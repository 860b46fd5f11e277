"""Writes example_workflows/*.json from the recipes of workflow_recipes.py, with ComfyUI's own front end doing the serialising.

Also web/docs/pictures/graph.jpg, the middle of one of them, for the help of what loads and saves checkpoints.

    python tools/workflows.py [NAME]     # needs ComfyUI and Chromium, as the browser tests do
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import front_end  # noqa: E402
from comfyui_server import Server  # noqa: E402
from find_comfyui import comfyui_or_reason  # noqa: E402
from recipe_parts import Output, Workflow  # noqa: E402
from workflow_recipes import RECIPES, tuned  # noqa: E402

FOLDER, HELP = ROOT / "example_workflows", ROOT / "web" / "docs" / "pictures"
OUR_VERSION, CORE_VERSION = "0.1.0", "0.25.0"


BUILD = """recipe => {
  const made = {}
  for (const spec of recipe.nodes) {
    const node = LiteGraph.createNode(spec.type)
    if (!node) throw new Error('no node ' + spec.type)
    app.graph.add(node)
    made[spec.id] = node
    if (spec.title) node.title = spec.title
    if (spec.colors) [node.color, node.bgcolor] = spec.colors
    Object.assign(node.properties, spec.properties)
    for (const [name, value] of Object.entries(spec.inputs)) {
      if (value?.node) continue
      const widget = node.widgets.find(w => w.name === name) ?? (name === '' && node.widgets[0])
      if (!widget) throw new Error(`${spec.type} has no widget ${name}`)
      widget.value = value
    }
    // A run that is repeated shall give the same.
    for (const widget of node.widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed'
    for (const [name, value] of Object.entries(spec.inputs)) {
      if (!value?.node) continue
      const from = made[value.node]
      const output = from.outputs.findIndex(o => o.name === value.name)
      const input = node.inputs.findIndex(i => i.name === name)
      if (output < 0 || input < 0) throw new Error(`${spec.type}.${name} <- ${from.type}.${value.name}`)
      from.connect(output, node, input)
    }
    const [width, height] = spec.size ?? node.computeSize()
    node.setSize([width, height + (spec.type.startsWith('RIFE') ? 65 : 0)])  // for the line that says what it did
  }
  let x = 0, column = recipe.nodes[0].column, y = 0, width = 0, group = 0
  for (const spec of recipe.nodes) {
    const node = made[spec.id]
    if (spec.column !== column) {
      x += width + (spec.group === group ? 40 : 80)
      ;[column, group, y, width] = [spec.column, spec.group, 0, 0]
    }
    node.setSize([Math.max(node.size[0], 300), node.size[1]])
    node.pos = [x, y]
    y += node.size[1] + 84  // the new kind of nodes is taller
    width = Math.max(width, node.size[0])
  }
  const title = 30, margin = 20
  // A node that runs grows by the picture that it shows.
  const grown = node => ['RIFEInterpolate', 'RIFETrain', 'RIFEScore'].includes(node.type) ? 190 : 0
  recipe.groups.forEach((spec, i) => {
    const group = new LiteGraph.LGraphGroup(spec.title)
    group.color = spec.color
    const nodes = recipe.nodes.filter(n => n.group === i).map(n => made[n.id])
    const edge = (pick, of) => pick(...nodes.map(of))
    group.pos = [edge(Math.min, n => n.pos[0]) - margin, -title - margin - 40]
    group.size = [
      edge(Math.max, n => n.pos[0] + n.size[0]) + margin - group.pos[0],
      edge(Math.max, n => n.pos[1] + n.size[1] + grown(n)) + margin - group.pos[1],
    ]
    app.graph.add(group)
  })
  return JSON.parse(JSON.stringify(app.graph.serialize()))
}"""


def as_recipe(w: Workflow) -> dict:
    """`w` as BUILD takes it."""
    nodes = []
    for node in w.nodes:
        properties = {}
        if node.type != "MarkdownNote":
            ours = node.type.startswith("RIFE")
            properties["cnr_id"] = "rife-interpolation" if ours else "comfy-core"
            properties["ver"] = OUR_VERSION if ours else CORE_VERSION
        if node.models:
            properties["models"] = node.models
        inputs = {
            name: {"node": value.node, "name": value.name} if isinstance(value, Output) else value
            for name, value in node.inputs.items()
        }
        nodes.append({**vars(node), "inputs": inputs, "properties": properties})
    return {"nodes": nodes, "groups": w.groups}


def tidied(graph: dict, w: Workflow) -> dict:
    """`graph` without what differs from one writing to the next, and with what App mode shows of it."""
    graph["id"] = str(
        uuid.uuid5(uuid.NAMESPACE_URL, f"https://github.com/ComfyUI-RIFE/ComfyUI-RIFE/{w.name}")
    )
    graph["extra"] = {"ds": {"scale": 0.7, "offset": [60, 120]}, "linearData": w.in_app_mode()}
    for node in graph["nodes"]:
        for slot in (*node["inputs"], *node["outputs"]):
            slot.pop("localized_name", None)
            if "widget" in slot or "." not in slot["name"]:
                slot.pop("label", None)  # what grows by itself has no other
        node["pos"] = [round(v) for v in node["pos"]]
        node["size"] = [round(v) for v in node["size"]]
    for group in graph["groups"]:
        group["bounding"] = [round(v) for v in group["bounding"]]
    return graph


def photograph(page, groups: list[str], path: Path) -> None:
    """What the window shows of these groups of its graph, as far down as the shortest goes."""
    page.fit()
    corners = page.js(
        """titles => {
          const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
          return app.graph.groups.filter(g => titles.includes(g.title)).map(({pos: [x, y], size: [w, h]}) =>
            [x, y, x + w, y + h].map((v, i) => (i % 2 ? box.y : box.x) + (v + offset[i % 2]) * scale))
        }""",
        groups,
    )
    left, top = (min(c[i] for c in corners) for i in (0, 1))
    right, bottom = max(c[2] for c in corners), min(c[3] for c in corners)
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    page.page.screenshot(path=str(path), type="jpeg", quality=85, clip=clip)


def main() -> None:
    comfyui, chromium = comfyui_or_reason(), front_end.chromium_or_reason()
    for found in (comfyui, chromium):
        if isinstance(found, str):
            raise SystemExit(found)
    with (
        tempfile.TemporaryDirectory() as base,
        Server(*comfyui, Path(base)) as server,
        front_end.browser(chromium) as browser,
    ):
        for recipe in RECIPES:
            w = recipe()
            if sys.argv[1:] and w.name not in sys.argv[1:]:
                continue
            # A window each: a new node takes over what the front end remembers of its id in the graph before.
            with front_end.open_page(browser, server) as page:
                graph = tidied(page.js(BUILD, as_recipe(w)), w)
                if recipe is tuned:
                    photograph(page, ["2. Training", "3. Keep it"], HELP / "graph.jpg")
            text = json.dumps(graph, indent=1, ensure_ascii=False) + "\n"
            (FOLDER / f"{w.file}.json").write_text(text, encoding="utf-8")
            print(w.name)


if __name__ == "__main__":
    main()
