"""The published benchmarks, on folders of a few small pictures in their layouts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from rife.evaluation import benchmarks as protocols
from rife.evaluation.baselines import average
from rife.evaluation.benchmarks import PROTOCOLS, psnr_y, read_yuv
from rife.evaluation.scoring import means, score
from rife.video.job import write_png


def write(path: Path, value: int, size=(32, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.full((*size, 3), value, np.uint8))


def result(name: str, root: Path):
    """Averaging on a set: (its samples, set -> its mean figures)."""
    protocol = PROTOCOLS[name]
    samples = list(protocol.samples(root))
    rows = list(score(samples, {"average": average}, protocol.metrics))
    found = means(rows, lambda row: row.set, protocol.of_groups)
    return samples, {set_name: figures for (set_name, _), figures in found.items()}


def values(sample) -> list[int]:
    return [int(x[0, 0, 0]) for x in (sample.img0, *sample.truth, sample.img1)]


def test_ucf101(tmp_path):
    for k in (1, 10, 2):
        for name, value in (("frame_00", 10), ("frame_01_gt", 20 + k), ("frame_02", 30)):
            write(tmp_path / "ucf101_interp_ours" / str(k) / f"{name}.png", value)
    samples, found = result("ucf101", tmp_path)
    assert [s.name for s in samples] == ["1", "2", "10"] and all(s.bgr for s in samples)
    assert values(samples[2]) == [10, 30, 30] and samples[0].times == (Fraction(1, 2),)
    mean_db = np.mean([-20 * np.log10(k / 255) for k in (1, 2, 10)])
    assert found["UCF101"]["psnr"] == pytest.approx(mean_db, abs=1e-4)
    assert PROTOCOLS["ucf101"].count == 379


@pytest.mark.parametrize("folder", ["target", "sequences"])
def test_vimeo90k_of_the_test_set_and_of_the_whole_set(tmp_path, folder):
    for place in ("00001/0389", "00002/0001", "00003/0001"):
        for k in (1, 2, 3):
            write(tmp_path / folder / place / f"im{k}.png", 10 * k)
    (tmp_path / "tri_testlist.txt").write_text("00001/0389\n00002/0001\n\n")
    samples, found = result("vimeo90k", tmp_path)
    assert [s.name for s in samples] == ["00001/0389", "00002/0001"] and values(samples[0]) == [10, 20, 30]
    assert all(s.bgr for s in samples)
    assert found["Vimeo90K"]["psnr"] == 100


def test_middlebury_pads_with_black_and_counts_absolute_differences(tmp_path):
    for k, name in enumerate(protocols.MIDDLEBURY):
        write(tmp_path / "other-data" / name / "frame10.png", 100)
        write(tmp_path / "other-data" / name / "frame11.png", 110)
        write(tmp_path / "other-gt-interp" / name / "frame10i11.png", 105 + k)
    samples, found = result("middlebury", tmp_path)
    assert len(samples) == PROTOCOLS["middlebury"].count
    assert samples[0].padding == (0, 640 - 48, 0, 480 - 32) and samples[0].pad_mode == "constant"
    assert samples[0].bgr
    assert found["Middlebury OTHER"]["ie"] == pytest.approx(5.5)
    assert found["Middlebury OTHER"]["ie_rms"] == pytest.approx(5.5 * 3**0.5)


def test_middlebury_in_one_folder_per_scene(tmp_path):
    for name in protocols.MIDDLEBURY:
        for file in ("frame10", "frame10i11", "frame11"):
            write(tmp_path / name / f"{file}.png", 9)
    assert result("middlebury", tmp_path)[1]["Middlebury OTHER"]["ie"] == 0


def write_hd(root: Path, monkeypatch, frames: int) -> None:
    """The 11 clips with 16 x 32 pixels, frame k with luma 40 + k, so that an average has the true one."""
    small = {folder: ((16, 32), clips) for folder, (_, clips) in protocols._HD.items()}
    monkeypatch.setattr(protocols, "_HD", small)
    monkeypatch.setattr(protocols, "_HD_ROWS", {16: 8})
    for folder, (_, clips) in small.items():
        (root / folder).mkdir(parents=True)
        for clip in clips.split():
            data = b"".join(bytes([40 + k] * 512 + [128] * 256) for k in range(frames))
            (root / folder / f"{clip}.yuv").write_bytes(data)


def test_hd_scores_luma_of_clips_that_end_early(tmp_path, monkeypatch):
    write_hd(tmp_path / "HD_dataset", monkeypatch, 6)
    samples, found = result("hd", tmp_path)
    assert len(samples) == 11 * 2 and samples[0].padding == (0, 0, 8, 8)
    assert {s.group for s in samples} == {c for _, clips in protocols._HD.values() for c in clips.split()}
    assert [s.name for s in samples[:2]] == ["0", "2"]
    assert found["HD 2x"]["psnr_y"] > 50


def test_hd_4x_makes_three_frames_and_reports_each_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(protocols, "_HD", {"HD720p_GT": protocols._HD["HD720p_GT"]})
    write_hd(tmp_path, monkeypatch, 9)
    samples, found = result("hd4x", tmp_path)
    assert samples[0].times == (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
    assert [s.name for s in samples[:3]] == ["0", "4", "0"]
    assert list(found) == ["HD 4x, 16p"]


def test_a_raw_frame_is_read_as_the_benchmark_does(tmp_path):
    """By skimage's yuv2rgb: Y 100, U 90, V 180 of 255 are RGB cut off to these integers."""
    frame = bytes([100] * 64 + [90] * 16 + [180] * 16)
    (tmp_path / "a.yuv").write_bytes(b"\0" * len(frame) + frame)
    rgb = read_yuv(tmp_path / "a.yuv", 8, 8, 1)
    assert rgb.shape == (3, 8, 8) and rgb[:, 3, 3].tolist() == [159, 84, 23]
    assert read_yuv(tmp_path / "a.yuv", 8, 8, 2) is None


def test_psnr_of_luma():
    true = torch.full((3, 8, 8), 100 / 255)
    made = true.clone()
    made[1] += 10 / 255
    assert psnr_y(made, true) == pytest.approx(-20 * np.log10(5.87 / 255), abs=1e-4)


@pytest.mark.parametrize("level", ["easy", "medium", "hard", "extreme"])
def test_snu_film(tmp_path, level):
    scene = "data/SNU-FILM/test/GOPRO_test/GOPR0384_11_00"
    for k in (1, 3, 5):
        write(tmp_path / "test/GOPRO_test/GOPR0384_11_00" / f"00000{k}.png", 10 * k)
    lines = " ".join(f"{scene}/00000{k}.png" for k in (1, 3, 5))
    (tmp_path / f"test-{level}.txt").write_text(lines + "\n")
    samples, found = result(f"snufilm-{level}", tmp_path)
    assert values(samples[0]) == [10, 30, 50] and samples[0].name == "GOPR0384_11_00/000003.png"
    assert found[f"SNU-FILM {level}"]["psnr"] == 100


def test_atd12k(tmp_path):
    for k in (1, 2, 3):
        write(tmp_path / "test_2k_540p" / "Disney_1" / f"frame{k}.png", 20 * k)
    samples, _ = result("atd12k", tmp_path)
    assert values(samples[0]) == [20, 40, 60] and samples[0].padding == (0, 0, 2, 2)


@pytest.mark.parametrize("name, title", [("xiph2k", "Xiph 2K"), ("xiph4k", 'Xiph "4K"')])
def test_xiph(tmp_path, monkeypatch, name, title):
    """Only every second frame is made, of 1 to 99; pictures of another size are refused."""
    read = []

    def fake(path):
        read.append(path.name)
        return torch.full((2160, 4096, 1), len(read) % 3, dtype=torch.uint8).expand(-1, -1, 3)

    monkeypatch.setattr(protocols, "read_picture", fake)
    for clip in protocols.XIPH:
        for k in range(1, 101):
            (tmp_path / f"{clip}-{k:03d}.png").touch()
    sample = next(PROTOCOLS[name].samples(tmp_path))
    assert sample.img0.shape == (3, 1080, 2048) and sample.set == title
    assert read == ["BoxingPractice-001.png", "BoxingPractice-002.png", "BoxingPractice-003.png"]
    monkeypatch.setattr(protocols, "read_picture", lambda path: torch.zeros(1080, 2048, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="2048x1080, expected 4096x2160"):
        next(PROTOCOLS[name].samples(tmp_path))


@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_a_folder_of_something_else_is_refused_by_name(tmp_path, name):
    (tmp_path / "1").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match="which .* has|holds"):
        next(PROTOCOLS[name].samples(tmp_path))
