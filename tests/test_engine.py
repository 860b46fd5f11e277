"""Frames in, frames out."""

from __future__ import annotations

import math
import weakref
from fractions import Fraction

import pytest
import torch

import rife
import rife.engine.batches
from rife.engine import Interpolator
from rife.engine.batches import BatchRunner
from rife.model import InferenceOptions
from rife.timeline.clock import Clock
from rife.timeline.plans import plan
from rife.timeline.request import PerPair


class Fader(Interpolator):
    """A stand-in model: a cross-fade, which shows in the result which pair and which time were asked for."""

    run_device = torch.device("cpu")
    run_dtype = torch.float32
    static_shapes = False

    def __init__(self, fits: int = 1000):
        self.fits = fits
        self.batches: list[int] = []

    def memory_estimate(self, height, width, batch=1, **options):
        return batch

    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        self.batches.append(len(img0))
        if len(img0) > self.fits:
            raise torch.OutOfMemoryError("pretended")
        return torch.lerp(img0, img1, timestep.view(-1, 1, 1, 1).to(img0))


def ramp(n: int, channels: int = 3, dtype=torch.float32) -> torch.Tensor:
    """Frame i has the value i/n everywhere, so a frame's value is its time."""
    return (torch.arange(n) / n).view(n, 1, 1, 1).expand(n, 4, 5, channels).to(dtype)


@pytest.mark.parametrize("n, multiplier", [(1, 2), (2, 2), (5, 2), (4, 3), (3, 8), (4, 1)])
def test_frame_law_and_order(n, multiplier):
    out = rife.interpolate(Fader(), ramp(n), multiplier)
    assert out.shape == ((n - 1) * multiplier + 1, 4, 5, 3)
    expected = torch.arange(len(out)) / multiplier / n
    torch.testing.assert_close(out[:, 0, 0, 0], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_result_does_not_depend_on_the_batch(batch_size):
    frames = torch.rand(5, 6, 7, 3)
    expected = rife.interpolate(Fader(), frames, 4, batch_size=1)
    assert torch.equal(rife.interpolate(Fader(), frames, 4, batch_size=batch_size), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_originals_are_bit_exact(dtype):
    frames = (torch.rand(4, 6, 7, 4, dtype=torch.float64) * 1.5 - 0.2).to(dtype)  # out of range values too
    out = rife.interpolate(Fader(), frames, 3)
    assert torch.equal(out[::3], frames)
    assert out.dtype == dtype and out.is_contiguous()


def test_frames_that_are_views_work():
    frames = torch.rand(3, 5, 6, 3).permute(0, 2, 1, 3)
    assert not frames.is_contiguous()
    assert torch.equal(rife.interpolate(Fader(), frames)[::2], frames)


def test_timesteps_replace_the_multiplier():
    out = rife.interpolate(Fader(), ramp(3), timesteps=[0.25, 0.9])
    torch.testing.assert_close(out[:, 0, 0, 0] * 3, torch.tensor([0, 0.25, 0.9, 1, 1.25, 1.9, 2]))


@pytest.mark.parametrize(
    "bad", [{"multiplier": 0}, {"multiplier": 2.5}, {"timesteps": [0.5, 0.5]}, {"timesteps": [1.0]}]
)
def test_impossible_times_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        rife.interpolate(Fader(), ramp(2), **bad)


@pytest.mark.parametrize("shape", [(0, 4, 5, 3), (4, 5, 3), (2, 0, 5, 3)])
def test_empty_input_says_so(shape):
    with pytest.raises(ValueError, match="at least one frame"):
        rife.interpolate(Fader(), torch.zeros(shape))


def test_out_of_memory_halves_the_batch_and_remembers():
    model, calls = Fader(fits=2), []
    out = rife.interpolate(model, ramp(9), batch_size=8, on_oom=lambda: calls.append(1))
    torch.testing.assert_close(out, rife.interpolate(Fader(), ramp(9)))
    assert model.batches == [8, 4, 2, 2, 2, 2]
    assert len(calls) == 2


def test_a_stream_that_ran_out_of_memory_stays_at_what_fits():
    model, calls = Fader(fits=2), []
    out = list(rife.interpolate_stream(model, iter(ramp(33)), batch_size=8, on_oom=lambda: calls.append(1)))
    torch.testing.assert_close(torch.stack(out), rife.interpolate(Fader(), ramp(33)))
    assert len(calls) == 2 and model.batches[:3] == [8, 4, 2] and set(model.batches[3:]) == {2}


def test_the_next_clip_and_the_next_model_of_a_network_begin_at_what_fitted():
    network = torch.nn.Identity()
    for clip in range(3):
        model = Fader(fits=2)
        model.net = network
        rife.interpolate(model, ramp(9), batch_size=8)
        list(rife.interpolate_stream(model, ramp(9), batch_size=8))
        assert model.batches == ([] if clip else [8, 4]) + [2] * 8
    other_size = Fader()
    other_size.net = network
    rife.interpolate(other_size, ramp(9)[:, :2], batch_size=8)
    assert other_size.batches == [8]


def test_a_clip_with_more_free_memory_tries_larger_passes_again(monkeypatch):
    network, free = torch.nn.Identity(), 4 << 30
    monkeypatch.setattr(rife.engine.batches, "free_memory", lambda device: free)
    batches = []
    for fits, free in ((2, 4 << 30), (8, 4 << 30), (8, 16 << 30)):  # noqa: B007 - seen by the lambda
        model = Fader(fits)
        model.net = network
        rife.interpolate(model, ramp(9), batch_size=8)
        batches.append(model.batches)
    assert batches == [[8, 4, 2, 2, 2, 2], [2, 2, 2, 2], [8]]


@pytest.mark.parametrize(
    "text", ["MPS backend out of memory (MPS allocated: 5 GB)", "Invalid buffer size: 9 GB"]
)
def test_every_back_end_that_runs_out_of_memory_is_understood_without_being_told(text):
    class Small(Fader):
        def inference(self, img0, *args, **options):
            if len(img0) > 2:
                raise RuntimeError(text)
            return super().inference(img0, *args, **options)

    torch.testing.assert_close(
        rife.interpolate(Small(), ramp(9), batch_size=8), rife.interpolate(Fader(), ramp(9))
    )


@pytest.mark.parametrize("stream", [False, True])
def test_running_out_of_memory_while_results_are_saved_halves_the_batch_too(monkeypatch, stream):
    class Tight(rife.engine.transfers.Transfer):
        def save(self, images, rows):
            if len(images) > 2:
                raise torch.OutOfMemoryError("pretended")
            super().save(images, rows)

    monkeypatch.setattr(rife.engine.batches, "transfer_between", lambda device, result: Tight(device))
    model = Fader()
    if stream:
        out = torch.stack(list(rife.interpolate_stream(model, ramp(9), batch_size=8)))
    else:
        out = rife.interpolate(model, ramp(9), batch_size=8)
    assert model.batches[:4] == [8, 4, 2, 2]
    torch.testing.assert_close(out, rife.interpolate(Fader(), ramp(9)))


@pytest.mark.parametrize(
    ("frames", "batch_size", "batches", "of_one_shape"),
    [
        (26, 24, [13, 12], [16, 16]),
        (6, 4, [3, 2], [4, 4]),
        (9, 8, [8], [8]),
        (8, 3, [3, 3, 1], [2, 2, 2, 2]),
    ],
)
def test_passes_are_of_even_size_or_of_one_shape_for_all_clips(frames, batch_size, batches, of_one_shape):
    for model, expected in ((Fader(), batches), (Fader(), of_one_shape)):
        model.static_shapes = expected is of_one_shape
        rife.interpolate(model, ramp(frames), batch_size=batch_size)
        assert model.batches == expected


def test_a_pass_that_was_filled_up_and_did_not_fit_is_not_taken_for_one_frame():
    model = Fader(fits=4)
    model.static_shapes = True
    out = list(rife.interpolate_stream(model, ramp(2), batch_size=8))
    assert model.batches == [8, 4] and len(out) == 3


def test_masks_that_do_not_fit_are_refused():
    frames = ramp(3)
    with pytest.raises(ValueError, match="expected .*3, 4, 5.* and .*5, 4, 5"):
        rife.interpolate(Fader(), frames, masks=frames[..., 0])
    with pytest.raises(ValueError, match="or neither"):
        rife.interpolate(Fader(), frames, masks=frames[:2, ..., 0], out_masks=torch.empty(5, 4, 5))


@pytest.mark.parametrize("stream", [False, True])
def test_the_frames_of_one_pass_are_gone_before_the_next_begins(stream):
    alive, most = weakref.WeakSet(), []

    class Watched(Fader):
        def inference(self, *args, **options):
            most.append(len(alive))
            images = super().inference(*args, **options)
            alive.add(images)
            return images

    if stream:
        list(rife.interpolate_stream(Watched(), ramp(9), batch_size=2))
    else:
        rife.interpolate(Watched(), ramp(9), batch_size=2)
    assert most == [0] * 4


def test_the_batch_follows_free_memory_where_the_device_tells_and_the_options(monkeypatch):
    class Elsewhere(Fader):
        run_device = torch.device("mps")

        def memory_estimate(self, height, width, batch=1, scale=1.0, TTA=False, ensemble=False, channels=3):
            return batch * (1 << 30) * (4 if scale == 2 else 1) * (2 if TTA else 1) * (channels - 2)

    def batch(free, channels=3, **options):
        monkeypatch.setattr(rife.engine.batches, "free_memory", lambda device: free)
        chosen = InferenceOptions(**options)
        return BatchRunner(Elsewhere(), (480, 720, channels), torch.device("cpu"), None, chosen).batch

    assert batch(None) == 24  # by size
    assert batch(16 << 30) == 8 and batch(16 << 30, scale=2) == 2
    assert batch(16 << 30, tta=True) == 4 and batch(16 << 30, 4) == 4 and batch(1 << 30) == 1


def test_given_frames_are_copied_behind_the_passes_they_would_hold_up():
    seen = []

    class Looking(Fader):
        def inference(self, *args, **options):
            seen.append(int((out[::2, 0, 0, 0] >= 0).sum()))
            return super().inference(*args, **options)

    out = torch.full((9, 4, 5, 3), -1.0)
    rife.interpolate(Looking(), ramp(5), batch_size=2, out=out)
    assert seen == [0, 2] and torch.equal(out[::2], ramp(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_masks_follow_the_colours_into_a_result_of_their_own(dtype):
    frames, masks = torch.rand(5, 4, 6, 3).to(dtype), torch.rand(5, 4, 6)
    joined = torch.cat((frames, masks[..., None].to(dtype)), 3)
    steps = plan(Clock(5, 16), rate=24, cuts={2})
    expected = rife.interpolate(Fader(), joined, plan=steps)
    out_masks = torch.empty(len(steps), 4, 6, dtype=dtype)
    out = rife.interpolate(Fader(), frames, plan=steps, masks=masks, out_masks=out_masks, batch_size=3)
    assert torch.equal(out, expected[..., :3]) and torch.equal(out_masks, expected[..., 3])


def test_one_frame_that_does_not_fit_says_what_to_do():
    with pytest.raises(RuntimeError, match="5x4.*smaller frames"):
        rife.interpolate(Fader(fits=0), ramp(3), batch_size=2)


def test_other_errors_travel():
    model = Fader()
    model.inference = lambda *a, **k: (_ for _ in ()).throw(KeyError("mine"))
    with pytest.raises(KeyError, match="mine"):
        rife.interpolate(model, ramp(2))


def test_progress_counts_new_frames_and_may_cancel():
    seen = []
    rife.interpolate(Fader(), ramp(3), 3, batch_size=2, on_progress=lambda *a: seen.append(a))
    assert [(done, total) for done, total, _ in seen] == [(0, 4), (2, 4), (4, 4)]
    assert seen[0][2] is None and seen[-1][2].shape == (4, 5, 3)

    def cancel(done, total, frame):
        if done == 2:
            raise KeyboardInterrupt

    model = Fader()
    with pytest.raises(KeyboardInterrupt):
        rife.interpolate(model, ramp(5), 3, batch_size=2, on_progress=cancel)
    assert len(model.batches) == 1


def test_output_may_be_given():
    out = torch.zeros(5, 4, 5, 3)
    assert rife.interpolate(Fader(), ramp(3), out=out) is out
    with pytest.raises(ValueError, match="contiguous"):
        rife.interpolate(Fader(), ramp(3), out=torch.zeros(4, 4, 5, 3))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 5])
def test_stream_equals_the_batch(n, batch_size):
    frames = torch.rand(n, 4, 5, 3)
    streamed = list(rife.interpolate_stream(Fader(), iter(frames), 3, batch_size=batch_size))
    expected = list(rife.interpolate(Fader(), frames, 3)) if n else []
    assert len(streamed) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(streamed, expected, strict=True))


def test_stream_holds_few_frames():
    alive = []

    def source():
        for i in range(50):
            alive.append(i)
            yield torch.rand(4, 5, 3)

    stream = rife.interpolate_stream(Fader(), source(), 2, batch_size=4)
    for _ in range(10):
        next(stream)
    assert len(alive) <= 12


def test_even_times():
    assert list(PerPair.multiplied(4).times) == [0.25, 0.5, 0.75]
    assert list(PerPair.multiplied(1).times) == []


def test_a_real_network_batched_over_pairs_equals_pair_by_pair():
    import golden_recipe as golden

    model = rife.load_model(golden.state_dict("4.22.lite"), device="cpu")
    frames = torch.cat([golden.frame(40, 50, d, 1) for d in (0, 1, 2)]).permute(0, 2, 3, 1)
    out = rife.interpolate(model, frames, 3, batch_size=4)
    for pair in (0, 1):
        for j in (1, 2):
            a, b = (frames[pair + k].permute(2, 0, 1)[None] for k in (0, 1))
            alone = model.inference(a, b, timestep=j / 3)[0].permute(1, 2, 0)
            torch.testing.assert_close(out[pair * 3 + j], alone, atol=1e-5, rtol=0)


def values(frames: torch.Tensor, n: int) -> list[float]:
    """The times that the frames of a `ramp(n)` show, in source frames."""
    return [round(float(frame[0, 0, 0]) * n, 4) for frame in frames]


PLANS = [
    {"rate": 24},
    {"rate": 9, "keep_duration": True},
    {"multiplier": 3, "loop": True},
    {"rate": 24, "loop": True},
    {"rate": 24, "cuts": {2, 5}},
    {"multiplier": 2, "cuts": {3}, "at_cuts": "blend", "repeats": {2}},
    {"multiplier": 2, "repeats": {2, 4, 5}, "at_repeats": "retime"},
    {"timesteps": [0.25, 0.75], "repeats": {1}, "cuts": {4}, "at_cuts": "nearest"},
]


@pytest.mark.parametrize("request_", PLANS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_frames_show_what_the_plan_says(request_, batch_size):
    n = 7
    steps = plan(Clock(n, 16), **request_)
    out = rife.interpolate(Fader(), ramp(n), plan=steps, batch_size=batch_size)
    assert len(out) == len(steps)
    torch.testing.assert_close(
        out[:, 0, 0, 0] * n,
        torch.tensor([float(s.left + s.time * (s.right - s.left)) for s in steps]),
    )


@pytest.mark.parametrize("request_", PLANS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_a_stream_follows_the_same_plan(request_, batch_size):
    frames = torch.rand(7, 4, 5, 3)
    expected = rife.interpolate(Fader(), frames, plan=plan(Clock(7, 16), **request_))

    def plan_for(count):
        return plan(Clock(count, 16), **request_)

    streamed = list(rife.interpolate_stream(Fader(), iter(frames), plan_for=plan_for, batch_size=batch_size))
    assert len(streamed) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(streamed, expected, strict=True))


def test_a_long_stream_holds_few_frames_whatever_the_plan():
    alive, most = weakref.WeakSet(), 0

    def source():
        for _ in range(300):
            frame = torch.rand(2, 2, 3)
            alive.add(frame)
            yield frame

    def plan_for(count):
        return plan(Clock(count, 24), rate=30, loop=True, repeats=range(1, 300, 2), at_repeats="retime")

    for _ in rife.interpolate_stream(Fader(), source(), plan_for=plan_for, batch_size=4):
        most = max(most, len(alive))
    assert most < 30


def test_time_may_run_backward_and_stand_still_and_no_picture_is_made_twice_in_a_row():
    model = Fader()
    shown = [0, 1.5, 1.5, 1.5, 2, 1.5, 0.5, 0.5, 0]
    times = [Fraction(t) / 2 for t in shown]  # two frames a second
    out = rife.interpolate(model, ramp(3), plan=plan(Clock(3, 2), times=times), batch_size=1)
    assert values(out, 3) == shown
    assert len(model.batches) == 2


def test_a_plan_for_another_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="plan is for 3 frames"):
        rife.interpolate(Fader(), ramp(4), plan=plan(Clock(3, 24), rate=30))


class Counter(Fader):
    """Counts how often each frame is looked at, as `rife.Model.encode` would be."""

    def __init__(self):
        super().__init__()
        self.encoded = 0

    def encode(self, images, *, scale, TTA, name):
        self.encoded += len(images)
        return images

    def between(self, source0, source1, shape, *, timestep, **options):
        return self.inference(source0, source1, timestep=timestep, **options)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_frame_is_encoded_once_in_one_go_and_as_a_stream(batch_size):
    frames = torch.rand(6, 4, 5, 3)
    whole, stream = Counter(), Counter()
    expected = rife.interpolate(whole, frames, 3, batch_size=batch_size)
    out = torch.stack(list(rife.interpolate_stream(stream, frames, 3, batch_size=batch_size)))
    assert torch.equal(out, expected)
    assert (whole.encoded, stream.encoded) == (6, 6)


def test_a_stream_of_bytes_gives_the_frames_of_the_same_numbers():
    frames = (torch.rand(6, 24, 32, 3) * 255).byte()
    made = list(rife.interpolate_stream(Fader(), iter(frames), 3))
    expected = list(rife.interpolate_stream(Fader(), iter(frames.float() / 255), 3))
    assert all(
        torch.equal(a if a.is_floating_point() else a.float() / 255, b)
        for a, b in zip(made, expected, strict=True)
    )
    assert made[3].dtype == torch.uint8 and torch.equal(made[3], frames[1])


def rotating(n: int, size: int = 96) -> torch.Tensor:
    """A ring of soft colours (n,size,size,3) that turns once in n frames: every step of the truth is equally large."""
    generator = torch.Generator().manual_seed(6)
    gain, phase, twist = (torch.rand(3, 4, 1, 1, generator=generator) * most for most in (0.12, math.tau, 4))
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    radius, angle = (x * x + y * y).sqrt(), torch.atan2(y, x)
    ring = ((1 - radius) * 4).clamp(0, 1) * (radius * 4).clamp(0, 1)
    waves = torch.arange(1, 5).view(4, 1, 1)
    frames = []
    for i in range(n):
        turned = gain * torch.cos(waves * (angle - math.tau * i / n) + phase + twist * radius)
        frames.append(((0.5 + turned.sum(1)) * ring).permute(1, 2, 0))
    return torch.stack(frames).clamp(0, 1)


def test_a_loop_of_a_turning_scene_has_no_seam():
    """With the bundled checkpoint: the way from the last frame to the first is like all others."""
    frames = rotating(24)
    model = rife.load_model(device="cpu")
    looped = plan(Clock(24, 24), multiplier=2, loop=True)
    out = rife.interpolate(model, frames, plan=looped)
    steps = (out.roll(-1, 0) - out).abs().mean((1, 2, 3))
    pairs = steps.unflatten(0, (24, 2)).mean(1)
    assert len(out) == 48 and pairs[:-1].min() <= pairs[-1] <= pairs[:-1].max() < 1.005 * steps.mean()
    assert steps[-2:].max() <= steps[:-2].max() < 1.02 * steps.mean()
    # The loop begun elsewhere is the same loop, to the bit: where it closes it is like anywhere else.
    for start in (1, 12):
        assert torch.equal(
            rife.interpolate(model, frames.roll(-start, 0), plan=looped), out.roll(-2 * start, 0)
        )
    # Without the loop, the clip would jump by a whole frame there.
    assert (frames[0] - frames[-1]).abs().mean() > 1.6 * steps.mean()


def test_what_is_held_on_the_device_does_not_grow_with_the_clip():
    most = {}

    class Holder(Counter):
        def encode(self, images, **options):
            encoded = images.clone()
            alive.add(encoded)
            return encoded

        def between(self, *args, **options):
            most[n] = max(most.get(n, 0), len(alive))
            return super().between(*args, **options)

    for n in (9, 90):
        alive = weakref.WeakSet()
        rife.interpolate(Holder(), torch.rand(n, 4, 5, 3), batch_size=4)
    assert most[9] == most[90]
