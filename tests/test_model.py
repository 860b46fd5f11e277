"""`Model`: the seed's interface without the seed's faults."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import golden_recipe as golden
import pytest
import torch

import rife
from rife.model.inputs import pad_to
from rife.networks.ifnet import IFNet

ROOT = Path(__file__).parent.parent


def small(name: str = "4.22.lite") -> rife.Model:
    return rife.load_model(golden.state_dict(name), variant=name, device="cpu")


def frames(height: int, width: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    img0, img1 = (golden.frame(height, width, d, 1) for d in (0, 1))
    index = [0, 1, 2, 0][:channels]
    return img0[:, index], img1[:, index]


def test_the_signature_is_the_promised_one():
    parameters = inspect.signature(rife.Model.inference).parameters
    names = ["self", "img0", "img1", "scale", "scale_list", "TTA", "timestep", "ensemble"]
    assert list(parameters) == names
    update = list(inspect.signature(rife.Model.update).parameters)
    assert update[:9] == [
        "self",
        "imgs",
        "gt",
        "learning_rate",
        "mul",
        "training",
        "flow_gt",
        "timestep",
        "distill_weight",
    ]


def test_repeated_calls_with_a_scale_give_the_same_frame():
    """The seed divided its default scale_list in place: three calls at 0.5 ended at 4, 8 and 16 times the scale."""
    model = rife.Model()
    model.device("cpu")
    img0, img1 = frames(64, 64)
    first = model.inference(img0, img1, scale=0.5)
    scale_list = [4, 2, 1]
    for _ in range(2):
        assert torch.equal(model.inference(img0, img1, scale=0.5, scale_list=scale_list), first)
    assert scale_list == [4, 2, 1]


def test_save_and_load_round_trip_without_module_prefix(tmp_path):
    """The seed kept only keys with `module.`: nothing of a checkpoint from a single device."""
    model = rife.Model()
    model.save_model(tmp_path)
    torch.save(model.net.state_dict(), tmp_path / "plain.pkl")
    img0, img1 = frames(32, 32)
    expected = model.inference(img0, img1)
    for path in (tmp_path, tmp_path / "plain.pkl", tmp_path / "flownet.safetensors"):
        other = rife.Model(arbitrary=True)
        other.load_model(path)
        assert other.config.versions == ("RIFE",)
        assert torch.equal(other.inference(img0, img1), expected)


def test_rank_above_zero_neither_loads_nor_saves(tmp_path):
    model = rife.Model()
    assert model.save_model(tmp_path / "x", rank=1) is None
    model.load_model(tmp_path / "missing", rank=1)
    assert not list(tmp_path.iterdir())


def test_constructor_train_eval_device():
    model = rife.Model(arbitrary=True)
    assert model.config.versions == ("RIFE_m",)
    model.train()
    assert model.flownet.training
    model.eval()
    assert not model.flownet.training
    assert model.device("cpu") == torch.device("cpu")


def test_files_from_another_device_load_on_this_one(tmp_path):
    """The seed had no map_location. A file saved on a device that is absent here must load."""
    state_dict = golden.state_dict("4.22.lite")
    torch.save(state_dict, tmp_path / "x.pkl")
    raw = (tmp_path / "x.pkl").read_bytes()
    # A pickled tensor names its device as a length-prefixed string; "cud" keeps the length, and is no device at all.
    assert raw.count(b"X\x03\x00\x00\x00cpu") > 0
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.pkl") as source, zipfile.ZipFile(tmp_path / "cuda.pkl", "w") as target:
        for name in source.namelist():
            target.writestr(
                name, source.read(name).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
            )
    model = rife.load_model(tmp_path / "cuda.pkl", device="cpu")
    assert torch.equal(model.net.encode.cnn0.weight, state_dict["encode.cnn0.weight"])


def test_nothing_is_kept_between_sizes():
    """The seed kept a warp grid for every size and batch it ever saw."""
    model = small()
    before = {key for key in vars(model.net)} | set(dict(model.net.named_buffers()))
    for size in (33, 64, 70):
        model.inference(*frames(size, size))
    assert {key for key in vars(model.net)} | set(dict(model.net.named_buffers())) == before
    assert not model.net._buffers


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (31, 65), (64, 64), (67, 130)])
def test_any_size_comes_back_at_its_size(size):
    img0, img1 = frames(*size)
    assert small().inference(img0, img1).shape == img0.shape


def test_padding_is_cropped_not_resized():
    """The CogVideo demo squeezed the padding into the picture: a black strip of 15 pixels at 720 wide."""
    img = torch.rand(1, 3, 40, 50)
    model = small()
    for value in model.net.state_dict().values():
        value.zero_()  # no flow, mask 0.5: the result is the average of the frames, pixel for pixel
    torch.testing.assert_close(model.inference(img, img), img)
    assert pad_to(img, 32).shape == (1, 3, 64, 64)
    assert torch.equal(pad_to(img, 32)[:, :, :40, :50], img)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_dtype_goes_in_and_comes_back(dtype):
    img0, img1 = frames(40, 40)
    model = small()
    out = model.inference(img0.to(dtype), img1.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), model.inference(img0, img1), atol=0.05, rtol=0)


def test_values_stay_in_range():
    img0, img1 = frames(32, 32)
    out = small("4.6").inference(img0 * 3 - 1, img1 * 3 - 1)
    assert 0 <= out.min() and out.max() <= 1


def test_timestep_is_honoured_per_sample():
    model = small()
    img0, img1 = (x.expand(3, -1, -1, -1) for x in frames(64, 64))
    out = model.inference(img0, img1, timestep=torch.tensor([0.2, 0.5, 0.9]))
    for i, t in enumerate((0.2, 0.5, 0.9)):
        alone = model.inference(img0[:1], img1[:1], timestep=t)
        torch.testing.assert_close(out[i : i + 1], alone, atol=1e-5, rtol=0)
    assert (out[0] - out[2]).abs().max() > 1e-3


def test_quarters_are_middles_of_middles_where_there_is_no_timestep():
    model = small("3.5")
    img0, img1 = frames(64, 64)
    middle = model.inference(img0, img1)
    assert torch.equal(model.inference(img0, img1, timestep=0.25), model.inference(img0, middle))
    assert torch.equal(model.inference(img0, img1, timestep=0.75), model.inference(middle, img1))
    with pytest.raises(ValueError, match="only knows the middle"):
        model.inference(img0, img1, timestep=1 / 3)


def test_tta_is_the_average_with_the_turned_frames():
    model = small()
    img0, img1 = frames(64, 64)
    turned = model.inference(img0.flip(2, 3), img1.flip(2, 3)).flip(2, 3)
    torch.testing.assert_close(
        model.inference(img0, img1, TTA=True), (model.inference(img0, img1) + turned) / 2
    )


@pytest.mark.parametrize("name", ["4.22.lite", "4.25", "RIFE_m", "RIFE"])
@pytest.mark.parametrize("tta", [False, True])
def test_ensemble_of_finished_frames_where_blocks_cannot(name, tta):
    """Averaged with time reversed: the same in both directions, and the mean of both."""
    model, (img0, img1) = small(name), frames(64, 64)
    t = 0.25 if model.config.timestep else 0.5
    both = model.inference(img0, img1, timestep=t, ensemble=True, TTA=tta)
    mean = (
        model.inference(img0, img1, timestep=t, TTA=tta)
        + model.inference(img1, img0, timestep=1 - t, TTA=tta)
    ) / 2
    torch.testing.assert_close(both, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.inference(img1, img0, timestep=1 - t, ensemble=True, TTA=tta), both)


def test_time_reversal_changes_nothing_with_the_ensemble():
    model = small("4.6")
    img0, img1 = frames(64, 64)
    forward = model.inference(img0, img1, timestep=0.25, ensemble=True)
    torch.testing.assert_close(
        model.inference(img1, img0, timestep=0.75, ensemble=True), forward, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2, 4])
def test_every_scale_runs_at_odd_sizes(scale):
    img0, img1 = frames(50, 70)
    assert small().inference(img0, img1, scale=scale).shape == img0.shape


def test_grey_and_alpha():
    model = small()
    grey = model.inference(*frames(40, 40, 1))
    assert grey.shape == (1, 1, 40, 40)
    rgba = model.inference(*frames(40, 40, 4))
    torch.testing.assert_close(rgba[:, :3], model.inference(*frames(40, 40, 3)))
    # Alpha equals the red channel here, so following the same flow it must come out as red does.
    torch.testing.assert_close(rgba[:, 3], rgba[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"scale": 3}, "0.25, 0.5"),
        ({"scale_list": [4, 2]}, "one downscale per block"),
        ({"scale_list": [6, 4, 2, 1]}, "powers of two"),
        ({"timestep": 1.0}, "between"),
        ({"timestep": torch.tensor([0.2, 0.3])}, "one per pair"),
        ({"img1": torch.rand(1, 3, 10, 10)}, "Resize"),
        ({"img0": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, "255"),
        ({"img0": torch.full((1, 3, 32, 32), float("nan"))}, "NaN"),
    ],
)
def test_wrong_arguments_say_what_was_expected(change, said):
    img0, img1 = frames(32, 32)
    with pytest.raises(ValueError, match=said):
        small().inference(**{"img0": img0, "img1": img1, **change})


def test_update_learns_and_leaves_the_weights_alone_when_asked():
    model = small("4.15.lite")
    img0, img1 = frames(32, 64)
    imgs, gt = torch.cat((img0, img1), 1), golden.frame(32, 64, 0.5, 1)
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    _, info = model.update(imgs, gt, 1e-3, training=False, timestep=0.5)
    assert all(torch.equal(before[k], v) for k, v in model.net.state_dict().items())
    first = float(info["loss_l1"])
    for _ in range(8):
        merged, info = model.update(imgs, gt, 1e-3, timestep=torch.tensor([0.5]))
    assert float(info["loss_l1"]) < first
    assert merged.shape == gt.shape and not merged.requires_grad
    expected = {"merged_tea", "mask", "mask_tea", "flow", "flow_tea", "loss_l1", "loss_tea", "loss_distill"}
    assert expected <= set(info)


def test_flow_supervision_brings_the_flow_nearer():
    model = small("4.22.lite")
    img0, img1 = frames(32, 32)
    imgs, gt = torch.cat((img0, img1), 1), golden.frame(32, 32, 0.5, 1)
    # The frame of displacement d at x is the frame of 0 at x - 3d, y + 2d.
    flow = torch.tensor([-1.5, 1.0, 1.5, -1.0]).view(1, 4, 1, 1).expand(1, 4, 32, 32)
    losses = [float(model.update(imgs, gt, 1e-3, flow_gt=flow)[1]["loss_flow"]) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_a_step_with_a_loss_that_is_not_finite_changes_nothing():
    model = small("4.15.lite")
    imgs = torch.rand(1, 6, 32, 32)
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    _, info = model.update(imgs, torch.rand(1, 3, 32, 32), 1e-3, perceptual=lambda a, b: a.sum() / 0)
    assert info["skipped"]
    assert all(torch.equal(before[k], v) for k, v in model.net.state_dict().items())
    assert not model.update(imgs, torch.rand(1, 3, 32, 32), 1e-3)[1]["skipped"]


def test_update_refuses_what_it_cannot_learn_from():
    model, imgs, gt = small("4.15.lite"), torch.rand(1, 6, 32, 32), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="NaN"):
        model.update(imgs, gt * float("nan"))
    with pytest.raises(ValueError, match="expected .B,6,H,W."):
        model.update(imgs[:, :3], gt)
    with pytest.raises(ValueError, match="multiples of 32"):
        model.update(imgs[..., :31], gt[..., :31])
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.update(imgs, gt, timestep=1.0)
    with pytest.raises(ValueError, match="can only learn 0.5"):
        rife.Model().update(imgs, gt, timestep=0.25)
    with pytest.raises(ValueError, match="precision"):
        model.update(imgs, gt, precision="fp8")
    with pytest.raises(ValueError, match="recipe"):
        model.update(imgs, gt, recipe="4.0")


def test_update_trains_inside_inference_mode_what_was_made_there():
    """As ComfyUI runs nodes; the copy has the optimiser's state, and leaves the original alone."""
    with torch.inference_mode():
        model = small("4.15.lite")
        imgs, gt = torch.rand(1, 6, 32, 32), torch.rand(1, 3, 32, 32)
        with pytest.raises(ValueError, match="copy"):
            rife.Model.from_network(IFNet(rife.RELEASES["4.15.lite"])).update(imgs, gt, 1e-4)
        first = model.copy()
        first.update(imgs, gt, 1e-4)
        kept = {k: v.clone() for k, v in first.net.state_dict().items()}
        second = first.copy()
        second.update(imgs, gt, 1e-4)
        assert all(torch.equal(kept[k], v) for k, v in first.net.state_dict().items())
        assert first.optimizer.state_dict()["state"][0]["step"] == 1
        assert second.optimizer.state_dict()["state"][0]["step"] == 2
        first.update(imgs, gt, 1e-4)  # the same second step
        for key, value in first.net.state_dict().items():
            assert torch.equal(second.net.state_dict()[key], value), key


def test_the_model_runs_inside_inference_mode_and_on_no_global_state():
    model = small()
    grad = torch.is_grad_enabled()
    with torch.inference_mode():
        out = model.inference(*frames(32, 32))
    assert torch.is_grad_enabled() == grad
    assert out.isfinite().all()


def test_importing_the_core_does_nothing():
    """No ComfyUI, no PyAV, no network, no global switch."""
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); before = torch.is_grad_enabled(), torch.get_num_threads();"
        "import rife; assert before == (torch.is_grad_enabled(), torch.get_num_threads());"
        "assert not {'av', 'comfy', 'folder_paths', 'nodes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, cwd=os.path.dirname(sys.executable))


def test_wrapping_a_network_copies_and_moves_nothing():
    net = IFNet(rife.RELEASES["4.15.lite"])
    assert rife.Model.from_network(net).net is net


def test_a_bfloat16_network_does_not_round_the_picture():
    torch.manual_seed(0)
    state = rife.networks.ifnet.IFNet(rife.RELEASES["4.26"]).state_dict()
    state = {k: v * 0.1 if "lastconv" in k else v for k, v in state.items()}
    exact, half = (rife.load_model(state, device="cpu", dtype=d) for d in (None, torch.bfloat16))
    img = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16), size=(64, 64), mode="bicubic").clamp(0, 1)
    error = (exact.inference(img, img.roll(1, 3)) - half.inference(img, img.roll(1, 3))).abs()
    assert half.net.source(img).dtype == torch.float32
    assert error.max() < 1e-3  # rounding the frames alone makes 2e-3 of it


def test_quarters_as_middles_of_middles():
    """timestep_method recursive: exactly what two calls for the middle give; other times stay direct."""
    model = rife.load_model()
    recursive = model.by_timesteps("recursive")
    assert recursive.net is model.net and model.timestep_method == "direct"
    img0, img1 = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), (64, 64), mode="bicubic").clamp(
        0, 1
    )[:, None]
    middle = model.inference(img0, img1)
    assert torch.equal(recursive.inference(img0, img1), middle)
    for t, pair in ((0.25, (img0, middle)), (0.75, (middle, img1))):
        quarter = recursive.inference(img0, img1, timestep=t)
        torch.testing.assert_close(quarter, model.inference(*pair), rtol=0, atol=1e-5)
        assert not torch.equal(quarter, model.inference(img0, img1, timestep=t))
    third = torch.tensor([1 / 3, 0.25])
    both = recursive.inference(img0.expand(2, -1, -1, -1), img1.expand(2, -1, -1, -1), timestep=third)
    torch.testing.assert_close(both[:1], model.inference(img0, img1, timestep=1 / 3), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="timestep_method is 'twice', expected one of direct, recursive"):
        model.by_timesteps("twice")


def test_a_way_of_times_goes_with_a_precision_and_through_the_engine():
    model = rife.load_model().by_timesteps("recursive")
    assert model.with_precision("bf16").timestep_method == "recursive"
    frames = torch.rand(2, 64, 64, 3)
    made = rife.interpolate(model, frames, 4)
    img0, img1 = (frame.permute(2, 0, 1)[None] for frame in frames)
    quarter = model.inference(img0, img1, timestep=0.25)[0].permute(1, 2, 0)
    torch.testing.assert_close(made[1], quarter, rtol=0, atol=1e-5)
