"""The fused convolutions give what the plain operations give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rife.ops import conv as fused


@pytest.fixture(params=[True, False], ids=["onednn", "plain"])
def path(request, monkeypatch):
    if request.param and not fused.has_onednn():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(fused, "_ONEDNN", fused.onednn_dtypes() if request.param else frozenset())


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_bfloat16_convolves_on_any_cpu():
    """oneDNN's own was called on CPUs without AVX-512 too, which it refuses: precision bf16 ended in its error."""
    x, weight = torch.rand(1, 8, 12, 16), torch.randn(8, 8, 3, 3) / 8
    with torch.no_grad():
        got = fused.convolve(x.bfloat16(), weight.bfloat16(), slope=0.2)
    torch.testing.assert_close(
        got.float(), F.leaky_relu(F.conv2d(x, weight, padding=1), 0.2), atol=0.1, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups, slope", [(1, 0.2), (2, None)])
def test_a_half_precision_that_the_cpu_does_not_multiply_goes_by_way_of_float32(
    dtype, groups, slope, monkeypatch
):
    """It took 7 to 17 times the time of float32. Weights may be of another dtype."""
    monkeypatch.setattr(fused, "_EMULATED", frozenset({dtype}))
    monkeypatch.setattr(fused, "_ONEDNN", fused.onednn_dtypes() - {dtype})
    seen, plain = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest: seen.append(x.dtype) or plain(x, *rest))
    x, weight, bias = (
        torch.randn(1, 8, 9, 12).to(dtype),
        torch.randn(8, 8 // groups, 3, 3) / 8,
        torch.randn(8),
    )
    with torch.no_grad():
        for kept in (weight.to(dtype), weight):
            got = fused.convolve(x, kept, bias.to(kept.dtype), groups=groups, slope=slope)
            exact = plain(x.float(), kept.float(), bias.to(kept.dtype).float(), 1, 1, 1, groups)
            exact = exact if slope is None else F.leaky_relu(exact, slope)
            assert got.dtype == dtype
            torch.testing.assert_close(got, exact.to(dtype), atol=1e-3, rtol=1e-2)
    assert dtype not in seen
    fused.convolve(x, weight.to(dtype), groups=groups)  # a gradient may be wanted: as ever
    assert seen[-1] == dtype


@pytest.mark.parametrize("able", [True, False])
def test_onednn_is_asked_for_bfloat16_where_the_cpu_can(able, monkeypatch):
    """A stand-in for the other kind of CPU, whichever this is."""
    if not fused.has_onednn():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able)
    assert (torch.bfloat16 in fused.onednn_dtypes()) == able
    assert torch.float32 in fused.onednn_dtypes()


@pytest.mark.parametrize("slope", [None, 0.2])
@pytest.mark.parametrize("groups, stride", [(1, 1), (2, 1), (1, 2)])
@torch.no_grad()
def test_convolve(path, slope, groups, stride):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 8, 9, 12), torch.randn(8, 8 // groups, 3, 3), torch.randn(8)
    kept = x.clone()
    plain = F.conv2d(x, weight, bias, stride, 1, 1, groups)
    got = fused.convolve(x, weight, bias, (stride, stride), groups, slope)
    close(got, plain if slope is None else F.leaky_relu(plain, slope))
    assert torch.equal(x, kept)


@pytest.mark.parametrize("groups", [1, 2])
@torch.no_grad()
def test_residual_and_beta_inside_the_convolution(path, groups):
    torch.manual_seed(0)
    conv, beta, x = nn.Conv2d(8, 8, 3, 1, 1, groups=groups), torch.randn(1, 8, 1, 1), torch.randn(1, 8, 6, 7)
    kept = conv.weight.clone()
    weight, bias = fused.fold_residual(conv.weight, conv.bias, beta, groups)
    close(fused.convolve(x, weight, bias, groups=groups), x + beta * conv(x))
    assert torch.equal(conv.weight, kept)


@torch.no_grad()
def test_transposed_convolution_as_a_convolution(path):
    torch.manual_seed(0)
    layer, x = nn.ConvTranspose2d(6, 3, 4, 2, 1), torch.randn(2, 6, 5, 7)
    close(fused.transposed_conv(x, layer), layer(x))


@pytest.mark.parametrize("act", [nn.LeakyReLU(0.2), nn.PReLU(5)])
def test_conv_act_trains_and_infers_the_same(act):
    torch.manual_seed(0)
    block, x = fused.ConvAct(nn.Conv2d(3, 5, 3, 2, 1), act), torch.randn(1, 3, 8, 8)
    trained = block(x)
    trained.sum().backward()
    assert block[0].weight.grad is not None
    with torch.no_grad():
        close(block(x), trained.detach())
