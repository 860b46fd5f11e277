"""Lets somebody look up while a network works: a pass of a large frame takes seconds, in which a user may cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def looked_up(network: nn.Module, look: Callable[[], None] | None) -> Iterator[None]:
    """Calls `look` after each module of every pass of `network` meanwhile, and on the way back through it.

    look: may raise, which ends the pass; None: nobody looks. Not for compiled networks and CUDA graphs, which hooks
    break.
    """
    if look is None:
        yield
        return

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        look()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _gradient: look())

    # All of them, not only the innermost: some layers compute with the weights of those within themselves.
    handles = [module.register_forward_hook(after) for module in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
