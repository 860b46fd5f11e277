"""The way of one frame through the pack is short enough to be read."""

from __future__ import annotations

import inspect
from pathlib import Path

from fake_comfyui import ROOT
from node_clips import clip

MOST = 10


def test_a_frame_passes_ten_functions_of_ours_on_its_way_to_the_first_block(host, model, monkeypatch):
    """From `RIFEInterpolate.execute` to the block's own function, both included: today's names are printed."""
    block, ways = type(model.model.blocks[0]), []
    forward = block.forward

    def watched(self, *args, **kwargs):
        frames = inspect.stack(context=0)[1:]
        names = [f"{Path(f.filename).stem}.{f.function}" for f in frames if _is_ours(f.filename)]
        ways.append(names[: names.index("interpolate.execute") + 1][::-1])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(block, "forward", watched)
    host.run("RIFEInterpolate", interp_model=model, images=clip(2), multiplier=2)
    way = [*ways[0], "ifblock.forward"]
    print(" > ".join(way))
    assert len(way) <= MOST, way
    assert len(set(way)) == len(way), f"one name twice tells nobody where he is: {way}"


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(ROOT / "nodes") or path.is_relative_to(ROOT / "rife")
