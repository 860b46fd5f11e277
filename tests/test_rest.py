"""What rests beside or upon what moves stays where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import rife
from rife.evaluation.metrics import psnr
from rife.networks import multiscale
from rife.networks.static_regions import share_at_rest

HEIGHT, WIDTH = 192, 320


def soft(seed: int, width: int = WIDTH) -> torch.Tensor:
    """A picture (1,3,HEIGHT,width) of soft shapes."""
    noise = torch.rand(1, 3, HEIGHT // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(HEIGHT, width), mode="bicubic").clamp(0, 1)


def lattice() -> torch.Tensor:
    """Lines of two pixels, 14 apart, over a dark soft picture."""
    place = torch.arange(max(HEIGHT, WIDTH)) % 14 < 2
    lines = place[:HEIGHT, None] | place[None, :WIDTH]
    return torch.where(lines, torch.tensor(0.9), 0.25 * soft(1))


def ball(at: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A round thing of 34 pixels at `at` (in x), as its colours and its mask."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    inside = (34 - torch.hypot(y - 96.0, x - at)).clamp(0, 1)
    return 0.4 + 0.5 * soft(2).roll(round(at), 3), inside


def over_the_lattice(at: float) -> torch.Tensor:
    colours, inside = ball(at)
    return torch.lerp(lattice(), colours, inside)


def letters() -> torch.Tensor:
    """A mask (HEIGHT,WIDTH) of strokes of 5 pixels, as of a subtitle."""
    mask = torch.zeros(HEIGHT, WIDTH)
    for left in (40, 69, 91, 132, 159, 203, 226, 264):  # uneven: none lies where another moves to
        mask[140:165, left : left + 5] = 1
        mask[150:155, left : left + 16] = 1
    return mask


def under_letters(by: float) -> torch.Tensor:
    """A picture that pans by `by` pixels, with white letters that stay."""
    start = 64 - round(by)
    return torch.lerp(soft(3, WIDTH + 128)[..., start : start + WIDTH], torch.ones(1), letters())


def around(mask: torch.Tensor, reach: int) -> torch.Tensor:
    return F.max_pool2d(mask[None, None], 2 * reach + 1, 1, reach)[0, 0] > 0


def beside_the_ball() -> torch.Tensor:
    """Pixels which the ball of no frame shows, near that of the middle."""
    reached = torch.stack([ball(x)[1] for x in (144.0, 160.0, 176.0)]).amax(0)
    return around(ball(160.0)[1], 16) & ~around(reached, 1)


def made(scene: Callable[[float], torch.Tensor], first: float, last: float) -> torch.Tensor:
    return rife.load_model(device="cpu").inference(scene(first), scene(last)).clamp(0, 1)


@pytest.mark.parametrize("scene, step, where, least, gain", [
    (over_the_lattice, 16.0, beside_the_ball(), 27, 6),
    (under_letters, 6.0, letters() > 0, 20, 3),
])  # fmt: skip
def test_what_rests_stays(scene, step, where, least, gain, monkeypatch):
    """It was moved with what it lies beside or upon: lines bent around whatever passed."""
    middle = 160.0 if scene is over_the_lattice else 0.0
    found = []
    for looks in (True, False):
        if not looks:
            monkeypatch.setattr(multiscale.ForwardState, "look_for_rest", lambda state: None)
        frame = made(scene, middle - step, middle + step)
        found.append(psnr(frame[..., where], scene(middle)[..., where]))
    assert found[0] > least and found[0] > found[1] + gain


def test_what_moves_goes_on_moving(monkeypatch):
    middle = over_the_lattice(160.0)
    inside = ~around(1 - ball(160.0)[1], 6)
    frame = made(over_the_lattice, 152.0, 168.0)
    monkeypatch.setattr(multiscale.ForwardState, "look_for_rest", lambda state: None)
    without = made(over_the_lattice, 152.0, 168.0)
    a, b = (psnr(x[..., inside], middle[..., inside]) for x in (frame, without))
    assert a > b - 0.1


def test_a_share_of_what_is_compared():
    torch.manual_seed(0)
    one, other = torch.rand(2, 1, 3, 24, 32)
    zeros = torch.zeros(1, 1, 24, 32)
    # Rest explains most of it, for noise is not of the same variance everywhere; less where it changes; nothing.
    whole = share_at_rest(one, one, one, other).mean()
    assert (
        whole > 0.8
        and whole - 0.4 < share_at_rest(one, torch.lerp(one, other, 0.3), one, other).mean() < whole - 0.1
    )
    assert torch.equal(share_at_rest(one, other, one, one), zeros)
    # Noise of a level is no motion that did not fit, and before what is plain a difference is something that passes.
    assert torch.equal(share_at_rest(one, one, one, one + 1 / 255), zeros)
    plain = torch.full_like(one, 0.5)
    assert torch.equal(share_at_rest(plain, plain, one, other), zeros)
    narrow = (x.half() for x in (one, one, one, other))
    assert share_at_rest(*narrow).dtype == torch.float32
