"""Reads, interpolates and writes video files and folders of pictures, as streams. The only package that needs PyAV."""

from .codecs import Encoding, VideoError
from .job import interpolate_video
from .reader import Clip, DamagedError
from .writer import VideoWriter

__all__ = ["Clip", "DamagedError", "Encoding", "VideoError", "VideoWriter", "interpolate_video"]
