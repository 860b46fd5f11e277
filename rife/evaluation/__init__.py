"""Measures how good frames are: metrics, baselines, published benchmarks, tables and charts."""

from .metrics import interpolation_error, psnr, ssim

__all__ = ["interpolation_error", "psnr", "ssim"]
