"""Holds functions over tensors that the networks and everything above them share; nothing here knows RIFE.

warp, grid_sample: pictures read between their pixels. conv, memory_format: what makes convolutions fast on a device.
red_black_sor: a linear solver for pixels.
"""
