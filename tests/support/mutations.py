"""Changes of a checkpoint's state dict: of what only training needs, which never matter, and of the student."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

StateDict = dict[str, Tensor]
_OPTIONAL = ("block_tea.", "teacher.", "caltime.", "contextnet.", "unet.")


def student_keys(state_dict: StateDict) -> list[str]:
    return [key for key in state_dict if not key.startswith(_OPTIONAL)]


def _without(prefix: str) -> Callable[[StateDict], StateDict]:
    return lambda sd: {k: v for k, v in sd.items() if not k.startswith(prefix)}


def _renamed(old: str, new: str) -> Callable[[StateDict], StateDict]:
    return lambda sd: {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in sd.items()}


def _with(**extra: Tensor) -> Callable[[StateDict], StateDict]:
    return lambda sd: {**sd, **{k.replace("__", "."): v for k, v in extra.items()}}


def _teacher_of(width: int, inputs: int, name: str = "block_tea") -> Callable[[StateDict], StateDict]:
    def change(sd: StateDict) -> StateDict:
        return {
            **_without(f"{name}.")(sd),
            f"{name}.conv0.0.0.weight": torch.zeros(width // 2, inputs, 3, 3),
            f"{name}.conv0.1.0.weight": torch.zeros(width, width // 2, 3, 3),
        }

    return change


def _first_of_the_teacher(change: Callable[[Tensor], Tensor | None]) -> Callable[[StateDict], StateDict]:
    """The first tensor of each part that training alone needs, changed; gone for None."""

    def apply(sd: StateDict) -> StateDict:
        out = dict(sd)
        for part in ("block_tea.", "teacher.", "caltime."):
            key = next((k for k in sd if k.startswith(part)), None)
            if key is not None:
                value = change(sd[key])
                out.pop(key)
                if value is not None:
                    out[key] = value
        return out

    return apply


def _prefixed(prefix: str) -> Callable[[StateDict], StateDict]:
    return lambda sd: {prefix + k: v for k, v in sd.items()}


def _wrapped(*names: str, **beside) -> Callable[[StateDict], dict]:
    def wrap(sd: StateDict) -> dict:
        inner = dict(sd)
        for name in reversed(names):
            inner = {name: inner, **beside}
        return inner

    return wrap


_Z = torch.zeros
HARMLESS: dict[str, Callable[[StateDict], dict]] = {
    "as it is": dict,
    "an ordered dict": OrderedDict,
    "no teacher": lambda sd: _without("teacher.")(_without("block_tea.")(sd)),
    "no guesser of time": _without("caltime."),
    "a teacher of other inputs": _teacher_of(64, 21),
    "a narrow teacher": _teacher_of(8, 15),
    "a second teacher": _teacher_of(64, 31, "teacher"),
    "half a teacher": _first_of_the_teacher(lambda _: None),
    "a teacher of integers": _first_of_the_teacher(lambda v: v.long()),
    "a teacher that diverged": _first_of_the_teacher(lambda v: v * torch.nan),
    "a teacher of other shape": _first_of_the_teacher(lambda v: v.flatten()[:1]),
    "a teacher under another name": lambda sd: _renamed("teacher.", "tea.")(
        _renamed("block_tea.", "tea.")(sd)
    ),
    "a guesser under another name": _renamed("caltime.", "timer."),
    "a contextnet alone": _with(contextnet__conv1__conv1__0__weight=_Z(16, 3, 3, 3)),
    "a unet alone": _with(unet__down0__conv1__0__weight=_Z(32, 17, 3, 3)),
    "a counter": _with(n_averaged=torch.tensor(7)),
    "a loss network": _with(vgg__features__0__weight=_Z(64, 3, 3, 3), vgg__features__0__bias=_Z(64)),
    "LPIPS": _with(lpips__lin0__model__1__weight=_Z(1, 64, 1, 1)),
    "a grid that was cached": _with(backwarp_grid=_Z(1, 2, 8, 8), backwarp_tenGrid__cpu=_Z(1, 2, 4, 4)),
    "Sobel kernels": _with(sobel__kernelX=_Z(3, 1, 3, 3), sobel__kernelY=_Z(3, 1, 3, 3)),
    "a discriminator": _with(discriminator__layer__0__weight=_Z(8, 3, 4, 4)),
    "another network's integers": _with(embedding__ids=torch.arange(5)),
    "DDP": _prefixed("module."),
    "compiled": _prefixed("_orig_mod."),
    "compiled under DDP": _prefixed("module._orig_mod."),
    "averaged": lambda sd: {"n_averaged": torch.tensor(3), **_prefixed("module.")(sd)},
    **{
        f"in {name}": _wrapped(name)
        for name in ("state_dict", "model", "params_ema", "ema", "network", "ifnet")
    },
    **{f"in {name}": _wrapped(name) for name in ("student", "weights", "ema_state_dict", "model_ema")},
    **{f"behind {name}": _prefixed(name) for name in ("student.", "network.", "ifnet.", "flownet.", "ema.")},
    "in a wrapper in a wrapper": _wrapped("model", "state_dict"),
    "beside counters": _wrapped("model", epoch=3, step=100, loss=0.25),
    "beside an optimiser": _wrapped(
        "model", optimizer={"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}
    ),
}


def _student(change: Callable[[StateDict, str], None], which: int = 0) -> Callable[[StateDict], StateDict]:
    """`change` of the student tensor number `which`, which is given by name."""

    def apply(sd: StateDict) -> StateDict:
        out = dict(sd)
        change(out, student_keys(sd)[which])
        return out

    return apply


def _last_block(sd: StateDict) -> str:
    return max(k.split(".")[0] for k in student_keys(sd) if k.startswith("block"))


def _set(make: Callable[[Tensor], Tensor]) -> Callable[[StateDict, str], None]:
    return lambda sd, key: sd.__setitem__(key, make(sd[key]))


def _without_block(number: int) -> Callable[[StateDict], StateDict]:
    return _without(f"block{number}.")


def _with_one_block_more(sd: StateDict) -> StateDict:
    last = _last_block(sd)
    number = int(last.removeprefix("block")) + 2  # not the next one, or it is a network of one block more
    copies = {f"block{number}{k.removeprefix(last)}": v for k, v in sd.items() if k.startswith(f"{last}.")}
    return {**sd, **copies}


# Name -> the change, and what the refusal says (a regular expression).
DAMAGE: dict[str, tuple[Callable[[StateDict], dict], str]] = {
    "nothing at all": (lambda sd: {}, "not a RIFE network: 0 tensors"),
    "no student": (
        lambda sd: {k: v for k, v in sd.items() if k not in student_keys(sd)},
        "not a RIFE network",
    ),
    "the first tensor is missing": (_student(dict.pop), "missing"),
    "one in the middle is missing": (_student(dict.pop, 20), "missing|parts missing|has no beta"),
    "the last is missing": (_student(dict.pop, -1), "missing"),
    "the first block is missing": (_without_block(0), "not a RIFE network"),
    "the second block is missing": (_without_block(1), "block1 is missing"),
    "a block too many": (_with_one_block_more, r"block\d is missing"),
    "an unknown tensor in a block": (_with(block0__gate__weight=_Z(3)), "unexpected.*block0.gate"),
    "another shape": (_student(_set(lambda v: v.flatten()), -2), r"has the shape|of other shape \["),
    "a wider tensor": (
        _student(_set(lambda v: torch.cat((v, v))), 8),
        r"has the shape|of other shape \[|takes",
    ),
    "NaN": (_student(_set(lambda v: v * torch.nan), 3), "NaN or infinity"),
    "infinity": (_student(_set(lambda v: v + torch.inf), 12), "NaN or infinity"),
    "integers": (_student(_set(lambda v: v.long()), 5), "is torch.int64"),
    "bytes": (_student(_set(lambda v: v.to(torch.uint8)), 9), "is torch.uint8"),
    "booleans": (_student(_set(lambda v: v.bool()), 9), "is torch.bool"),
    "complex numbers": (_student(_set(lambda v: v.to(torch.complex64)), 9), "is torch.complex64"),
    "a shape without data": (_student(_set(lambda v: v.to("meta")), 4), "meta tensor"),
    "twice, under two prefixes": (lambda sd: {**_prefixed("module.")(sd), **sd}, "is there twice"),
    "a text in place of a tensor": (
        _student(lambda sd, key: sd.__setitem__(key, "gone"), 2),
        "is a str, expected a tensor",
    ),
}
