import math
import xml.etree.ElementTree

import pytest
import torch

from rife.evaluation.charts import chart_svg, flow_picture, heat_map, line_colours, ticks


def flow(u: float, v: float) -> torch.Tensor:
    return torch.tensor([u, v]).view(2, 1, 1)


@pytest.mark.parametrize(
    "u, v, colour",
    [(1, 0, (255, 0, 0)), (0, 0, (255, 255, 255)), (0.5, 0, (255, 127, 127)), (-1, 0, (0, 209, 255)),
     (0, 1, (255, 229, 0)), (0, -1, (88, 0, 255)), (2, 0, (191, 0, 0))],
)  # fmt: skip
def test_flow_has_the_colours_of_middlebury(u, v, colour):
    """By its flow-code (colorcode.cpp, which cuts off to integers): hue is direction, saturation is length."""
    found = flow_picture(flow(u, v), 1.0)[0, 0] * 255
    assert found.tolist() == pytest.approx(colour, abs=1.5)


def test_flow_without_a_limit_takes_the_longest_of_all_pictures():
    both = torch.stack((flow(3, 4), flow(0, 2.5)))
    assert torch.allclose(flow_picture(both), flow_picture(both, 5.0))
    assert torch.equal(flow_picture(torch.zeros(2, 4, 4)), torch.ones(4, 4, 3))


def test_flow_that_is_not_finite_is_drawn_as_rest():
    broken = torch.stack((flow(math.nan, 0), flow(2, 0)))
    assert flow_picture(broken)[0, 0, 0].tolist() == [1, 1, 1]
    assert flow_picture(broken)[1, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_a_heat_map_grows_brighter_with_the_value():
    heat = heat_map(torch.linspace(0, 2, 33), 1.0)
    brightness = (heat * torch.tensor([0.299, 0.587, 0.114])).sum(-1)
    assert (brightness[1:17] > brightness[:16]).all()
    assert torch.equal(heat[16], heat[32]) and heat[0].max() < 0.05


def test_ticks_are_round():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(22.1, 41.7) == [25, 30, 35, 40]
    assert ticks(3, 3) == [3]


def test_a_chart_is_svg_that_leaves_gaps():
    text = chart_svg("a < b", {"one": [1, 2, math.inf, 3, 4], "two": [math.nan] * 5}, "dB")
    root = xml.etree.ElementTree.fromstring(text)
    paths = [p.get("d") for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("fill") == "none"]
    assert [path.count("M") for path in paths] == [2, 0]
    assert "a &lt; b" in text and "one" in text
    chart_svg("nothing", {}, "dB")
    few = xml.etree.ElementTree.fromstring(chart_svg("two", {"one": [1, 2]}, "dB"))
    under = [t.text for t in few.iter("{http://www.w3.org/2000/svg}text") if t.get("text-anchor") == "middle"]
    assert under == ["0", "1"], "there is no frame 0.2"


def test_averaging_is_grey_whatever_stands_beside_it():
    colours = line_colours(["one", "average", *"abcdefgh"])
    assert colours["average"] == "#888888" and "#888888" not in {
        v for k, v in colours.items() if k != "average"
    }
    assert colours["one"] == line_colours(["average", "one"])["one"]
