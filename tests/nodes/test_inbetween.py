"""RIFE Inbetween, and the lines that nodes show."""

from __future__ import annotations

import json
from types import SimpleNamespace

import fake_comfyui as stand_in
import pytest
import torch
from node_clips import Blend, clip, native


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
    ((text, node, client),) = host.lines
    assert "own training" in text and "metadata" in text and (node, client) == ("7", "browser")
    assert output.ui is None, "a text of the loader would be the job's picture in the queue"


def test_a_line_goes_to_the_browser_that_queued_the_run_and_to_no_other(host):
    host.server.client_id = None  # queued by a script: other browsers may show another graph
    host.run("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    assert not host.lines


def test_a_node_says_in_a_line_what_it_did(host, model):
    host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=4, fps=8.0)
    loaded, planned, made = host.lines
    assert planned[0] == "3 → 9 frames, 32 fps, 0.28 s; 6 new"  # too few to say how long it takes
    assert loaded[0] == "RIFE own training, decided by the file's metadata" and loaded[1] == "7"
    assert made[0].startswith("3 → 9 frames, 32 fps, 0.28 s; took ") and made[1] == "7"


VIEWED = {
    "3": {"class_type": "RIFEInterpolate", "inputs": {}},
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 3]}},
    "5": {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}},  # the rate
    "6": {"class_type": "PreviewAny", "inputs": {"source": ["2", 3]}},  # another node's
    "9:4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 3]}},  # in a subgraph
    "8": {"class_type": "SaveText", "inputs": {"source": ["3", 3]}},
}


def test_what_a_run_will_take_is_seen_where_its_report_will_be_and_stays_in_it(host, model):
    host.nodes["RIFEInterpolate"].hidden = SimpleNamespace(prompt=VIEWED, unique_id="3")
    out = host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=4, fps=8.0)
    told = "3 → 9 frames, 32 fps, 0.28 s; 6 new"
    assert [(event, data["node"], data["display_node"], client) for event, data, client in host.sent] == [
        ("executed", "4", "4", "browser"),
        ("executed", "9:4", "9:4", "browser"),
    ]
    assert all(d["output"] == {"text": [told]} and d["prompt_id"] == "job" for _, d, _ in host.sent)
    assert list(json.loads(out[3]).items())[1] == ("forecast", told)


@pytest.mark.parametrize("kind", ["RIFEInterpolate", "RIFEInterpolateVideo"])
def test_the_report_is_the_output_that_is_looked_for(host, kind):
    names = [output.options["display_name"] for output in host.nodes[kind].define_schema().outputs]
    assert names[host.module("nodes.model_management").REPORT] == "report"


def test_nothing_is_sent_where_nobody_looks(host, model):
    host.nodes["RIFEInterpolate"].hidden = SimpleNamespace(prompt=VIEWED, unique_id="3")
    host.server.client_id = None
    host.run("RIFEInterpolate", interp_model=model, images=clip(3), multiplier=2)
    assert not host.sent


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
