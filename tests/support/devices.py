"""What other devices lack, and what makes a GPU wait: refused and counted on a machine that has none of them."""

from __future__ import annotations

import torch
from alive import run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SmallDevice(TorchDispatchMode):
    """Refuses, as MPS and DirectML do, what some PyTorch from 2.5 on does not have there, or does wrong.

    float64; grid_sample with border padding (pytorch#125098) or bicubic, on interleaved pictures (#174339) or a grid
    that is a view (#171602), and its gradient (#141287); pooling to sides that do not divide (#96056); bicubic
    resampling (DirectML#596); convolutions with weights that are a view (#192212, on an accelerator's path).
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if refusal := self._refusal(name, args):
            raise RuntimeError(f"{name}: {refusal}")
        result = run(operation, args, kwargs or {})
        if any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in tree_leaves(result)):
            raise TypeError("no float64")
        return result

    def _refusal(self, name: str, args) -> str | None:
        if name == "grid_sampler_2d":
            image, points, mode, padding = args[:4]
            if (mode, padding) != (0, 0):
                return "only bilinear, only zeros"
            if not (image.is_contiguous() and points.is_contiguous()):
                return "wrong for views"
        if name in ("grid_sampler_2d_backward", "upsample_bicubic2d"):
            return "missing"
        if name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d"):
            if any(side % part for side, part in zip(args[0].shape[-2:], args[1], strict=True)):
                return "sizes must be divisible"
        if name == "convolution" and args[0].device.type != "cpu" and not args[1].is_contiguous():
            return "wrong for weights that are a view"
        return None


class HostWaits(TorchDispatchMode):
    """Collects in `found` what makes the host wait for the meta device, standing for a GPU: values that come back.

    Copies to the device count where they are not asynchronous. Tensors made of host values are caught by `forbidden`.
    """

    _READS = {
        "_local_scalar_dense",
        "item",
        "nonzero",
        "equal",
        "is_nonzero",
        "masked_select",
        "unique_dim",
        "_unique2",
    }

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        tensors = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
        if name in self._READS or (name.startswith("index") and any(x.dtype == torch.bool for x in tensors)):
            self.found.append(name)
        result = run(operation, args, kwargs or {})
        devices = {x.device.type for x in (*tensors, result) if isinstance(x, torch.Tensor)}
        if name in ("_to_copy", "copy_") and len(devices) > 1 and not (kwargs or {}).get("non_blocking"):
            self.found.append(f"{name} of {tuple(tensors[-1].shape)}")
        return result


def forbid_host_tensors(monkeypatch) -> None:
    """Lets torch.tensor and Tensor.new_tensor fail where they would copy values of the host to the meta device."""
    make, make_like = torch.tensor, torch.Tensor.new_tensor

    def tensor(*args, device=None, **kwargs):
        assert torch.device(device or "cpu").type == "cpu", "torch.tensor on the device: the host waits"
        return make(*args, device=device, **kwargs)

    def new_tensor(like, *args, **kwargs):
        assert like.device.type == "cpu", "new_tensor on the device: the host waits"
        return make_like(like, *args, **kwargs)

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch.Tensor, "new_tensor", new_tensor)
