import pytest
import torch

from rife.evaluation.baselines import FlowWarping, average, has_opencv
from rife.evaluation.metrics import psnr
from rife.training.synthetic import RenderedMotion

needs_opencv = pytest.mark.skipif(not has_opencv(), reason="OpenCV is not installed (pip install .[score])")


def test_averaging_weighs_by_nearness():
    img0, img1 = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    assert average(img0, img1, [0.25, 0.5])[:, 0, 0, 0].tolist() == [0.25, 0.5]


def test_warping_by_the_true_flow_of_a_pan_gives_the_true_frames():
    """A ramp that moves by (4, -2): inside, nothing is occluded and bilinear sampling is exact."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")

    def at(t):
        return ((x - 4 * t) + 3 * (y + 2 * t)).expand(3, -1, -1) / 200

    def flow_of(a, b):
        sign = 1.0 if torch.equal(a, at(0)) else -1.0
        return torch.tensor([4.0, -2.0]).view(2, 1, 1).expand(2, 32, 40) * sign

    times = [0.25, 0.5, 0.875]
    made = FlowWarping(flow_of)(at(0), at(1), times)
    for frame, t in zip(made, times, strict=True):
        assert torch.allclose(frame[:, 4:-4, 4:-4], at(t)[:, 4:-4, 4:-4], atol=1e-5)


def test_without_opencv_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    from rife.evaluation.baselines import BASELINES

    with pytest.raises(RuntimeError, match="pip install opencv-python-headless"):
        BASELINES["dis"](torch.zeros(3, 32, 32), torch.zeros(3, 32, 32), [0.5])


@needs_opencv
@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_classical_flow_beats_averaging_on_rendered_motion(name):
    from rife.evaluation.baselines import BASELINES

    scene = RenderedMotion(128, 160, seed=3, max_motion=8.0, objects=3)
    img0, true, img1 = scene.clip(2, timesteps=2).clamp(0, 1)
    made = BASELINES[name](img0, img1, [0.5])[0]
    assert psnr(made, true) > psnr((img0 + img1) / 2, true) + 2


@needs_opencv
def test_motion_is_measured_in_pixels():
    from rife.evaluation.baselines import motion_size

    picture = RenderedMotion(128, 160, seed=5, max_motion=1.0, objects=0).clip(2, timesteps=1)[0].clamp(0, 1)
    assert motion_size(picture, picture) < 0.1
    assert motion_size(picture, picture.roll(6, 2)) == pytest.approx(6, abs=1)
