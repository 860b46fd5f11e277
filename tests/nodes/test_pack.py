"""What the pack promises: names, order, tooltips, defaults."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fake_comfyui as stand_in
import pytest


def test_importing_the_pack_imports_neither_its_nodes_nor_comfyui():
    before = set(sys.modules)
    spec = stand_in.importlib.util.spec_from_file_location("door-only", stand_in.ROOT / "__init__.py")
    module = stand_in.importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not {name for name in set(sys.modules) - before if "nodes" in name or "comfy" in name}
    assert not hasattr(module, "NODE_CLASS_MAPPINGS")


# Names that users' graphs hold: inputs and outputs of each node, in order.
PROMISED = json.loads(Path(__file__).with_name("promised.json").read_text(encoding="utf-8"))


# Under the ids of another pack, where it is not installed.
FANNOVEL = ("RIFE VFI", "Make Interpolation State List")

# A DynamicCombo starts with its first option.
SOCKETS = (
    "IMAGE",
    "MASK",
    "VIDEO",
    "INTERP_MODEL",
    "INTERPOLATION_STATES",
    "VHS_BATCHMANAGER",
    "VHS_BatchManager",
    "UPSCALE_MODEL",
    "COMFY_DYNAMICCOMBO_V3",
    "COMFY_AUTOGROW_V3",
)


@pytest.mark.parametrize("node_id", PROMISED)
def test_inputs_and_outputs_keep_their_names_and_order(host, node_id):
    schema = host.nodes[node_id].define_schema()
    inputs, outputs = PROMISED[node_id]["inputs"], PROMISED[node_id]["outputs"]
    # New ones may follow, where they are optional.
    assert [i.id for i in schema.inputs][: len(inputs)] == inputs
    assert all(i.options.get("optional") for i in schema.inputs[len(inputs) :])
    assert [o.options["display_name"] for o in schema.outputs][: len(outputs)] == outputs


def test_every_node_explains_itself_and_each_of_its_sockets(host):
    for node_id, node in host.nodes.items():
        schema = node.define_schema()
        assert node_id.startswith("RIFE") or node_id in FANNOVEL
        assert schema.node_id == node_id
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
