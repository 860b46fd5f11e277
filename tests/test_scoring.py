"""Held-out samples, scores and their means."""

from __future__ import annotations

import csv
import math
from fractions import Fraction

import pytest
import torch

from rife.evaluation.baselines import average
from rife.evaluation.scoring import (
    METRICS,
    MOTION_CLASSES,
    Network,
    Row,
    Sample,
    held_out,
    mean,
    means,
    motion_class,
    score,
    usable_starts,
    write_rows,
)
from rife.timeline.scenes import Scenes


def frames(count: int) -> list[torch.Tensor]:
    return [torch.full((4, 6, 3), i, dtype=torch.uint8) for i in range(count)]


def row(set="a", method="m", group="", motion=math.nan, **figures) -> Row:
    return Row(set, "", group, "0-2", Fraction(1, 2), method, motion, figures)


def test_windows_end_to_end_are_what_dropping_frames_leaves():
    assert usable_starts(Scenes(), 9, 2, 1) == [0, 2, 4, 6]
    assert usable_starts(Scenes(), 9, 4, 1) == [0, 4]
    assert usable_starts(Scenes(), 9, 8, 1) == [0]
    assert usable_starts(Scenes(), 8, 8, 1) == []


def test_windows_that_a_cut_or_a_repeat_spoils_are_left_out():
    assert usable_starts(Scenes(cuts={3}), 9, 2, 1) == [0, 4, 6]
    assert usable_starts(Scenes(repeats={4}), 9, 2, 1) == [0, 4, 6]
    assert usable_starts(Scenes(cuts={0}), 5, 4, 1) == [0]


def test_few_true_frames_are_spread_over_the_clip():
    assert usable_starts(Scenes(), 101, 2, 1, 5) == [9, 29, 49, 69, 89]
    assert usable_starts(Scenes(), 101, 4, 1, 5) == [24, 72]  # three true frames each
    assert usable_starts(Scenes(), 5, 2, 1, 12) == [0, 1, 2]
    assert usable_starts(Scenes(), 101, 8, 2, 1) == [42]


def test_held_out_frames_and_their_times():
    first, second = held_out(frames(20), "clip", 4, 2, [1, 3])
    assert (first.set, first.task, first.name) == ("clip", "4x stride 2", "1-9")
    assert first.times == (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
    assert [int(x[0, 0, 0]) for x in (first.img0, *first.truth, first.img1)] == [1, 3, 5, 7, 9]
    assert first.img0.shape == (3, 4, 6) and first.truth.dtype == torch.uint8
    assert int(second.img0[0, 0, 0]) == 3


def test_a_clip_is_not_read_further_than_needed():
    def source():
        yield from frames(5)
        raise AssertionError("read on")

    assert len(list(held_out(source(), "clip", 2, 1, [0, 2]))) == 2


def test_every_true_frame_gives_a_row_per_method():
    sample = next(held_out(frames(9), "clip", 4, 1, [0]))
    methods = {"average": average, "first": lambda a, b, times: a.expand(len(times), -1, -1, -1)}
    seen = []
    rows = list(
        score([sample], methods, {"ie": METRICS["ie"]}, lambda a, b: 3.0, lambda *args: seen.append(args))
    )
    assert [(r.method, r.time) for r in rows] == [(m, Fraction(k, 4)) for m in methods for k in (1, 2, 3)]
    assert [round(r.figures["ie"], 4) for r in rows] == [0, 0, 0, 1, 2, 3]
    assert {r.motion for r in rows} == {3.0}
    shown = [(name, made.shape[0], len(found)) for _, name, made, found in seen]
    assert shown == [("average", 3, 3), ("first", 3, 3)]


def test_a_method_gets_the_channels_in_the_order_of_the_benchmark():
    red = torch.zeros(3, 4, 6, dtype=torch.uint8)
    red[0] = 255
    sample = Sample("s", "n", red, red, (Fraction(1, 2),), red[None], bgr=True, padding=(0, 2, 0, 0))

    def method(img0, img1, times):
        assert img0[2, 0, 0] == img1[2, 0, 0] == 1 and not img0[:2].any()
        return img0[None]

    (row,) = score([sample], {"m": method}, {"ie": METRICS["ie"]})
    assert row.figures["ie"] == 0


def test_padding_is_seen_by_the_method_and_not_by_the_score():
    sizes = []

    def method(img0, img1, times):
        sizes.append(img0.shape)
        return torch.lerp(img0, img1, 0.5)[None]

    image = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    sample = Sample("s", "n", image, image, (Fraction(1, 2),), image[None], padding=(1, 2, 3, 4))
    (found,) = score([sample], {"m": method}, {"ie": METRICS["ie"]})
    assert sizes == [(3, 12, 10)] and found.figures["ie"] == 0


def test_a_network_is_asked_for_every_time(monkeypatch):
    class Fade:
        run_device = torch.device("cpu")

        def inference(self, img0, img1, timestep, **options):
            assert options == {"scale": 0.5, "TTA": True, "ensemble": False}
            return torch.lerp(img0, img1, timestep)

    made = Network(Fade(), 0.5, tta=True)(torch.zeros(3, 2, 2), torch.ones(3, 2, 2), [0.25, 0.75])
    assert made[:, 0, 0, 0].tolist() == [0.25, 0.75]


def test_means_count_equal_pictures_as_100_dB_and_leave_out_what_is_missing():
    assert mean([math.inf, 40]) == 70
    assert mean([math.nan, 2.0]) == 2
    assert math.isnan(mean([math.nan]))


def test_means_of_groups_weigh_clips_and_not_frames():
    rows = [row(group="one", psnr=10.0)] * 3 + [row(group="two", psnr=30.0)]
    assert means(rows, lambda r: r.set)["a", "m"] == {"psnr": 15, "frames": 4}
    assert means(rows, lambda r: r.set, of_groups=True)["a", "m"] == {"psnr": 20, "frames": 4}


def test_classes_of_motion():
    assert [motion_class(m) for m in (0, 0.99, 1, 7.9, 8, 31, 32, 500)] == [
        MOTION_CLASSES[k] for k in (0, 0, 1, 2, 3, 4, 5, 5)
    ]
    assert motion_class(math.nan) == ""
    assert MOTION_CLASSES == (
        "0 to 1 px",
        "1 to 4 px",
        "4 to 8 px",
        "8 to 16 px",
        "16 to 32 px",
        "over 32 px",
    )


def test_rows_are_written_whole(tmp_path):
    write_rows(
        tmp_path / "frames.csv", [row(psnr=31.23456, ie=math.nan), row(motion=2.5, psnr=math.inf, ie=1.0)]
    )
    lines = list(csv.reader((tmp_path / "frames.csv").open()))
    assert lines[0] == ["set", "task", "group", "pair", "time", "method", "motion_px", "psnr", "ie"]
    assert lines[1][4:] == ["1/2", "m", "", "31.2346", ""]
    assert lines[2][6:] == ["2.50", "inf", "1.0000"]
    assert [p.name for p in tmp_path.iterdir()] == ["frames.csv"]


@pytest.mark.parametrize("name", [*METRICS])
def test_every_metric_knows_equal_frames(name):
    image = torch.rand(3, 16, 16)
    value = METRICS[name](image, image, image, 1 - image)
    assert value == {"psnr": math.inf, "ssim": pytest.approx(1)}.get(name, 0)
