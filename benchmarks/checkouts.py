"""What benchmarks run in a process of another checkout: its command line, or a network that takes no time, over
either's engine."""

# The command `rife` of the checkout whose folder is the first argument.
COMMAND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from rife.cli import main
if failed := main(sys.argv[1:]):
    sys.exit(failed)
"""

# What comes before a script that is run with a checkout's folder as its first argument. `First` returns its first
# frame, so that reading, converting and writing are left.
FIRST = """
import json, logging, resource, sys, time
sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)
import torch
import rife
from rife.video import Encoding, interpolate_video
try:
    from rife.engine import Interpolator
except ImportError:
    Interpolator = object
class First(Interpolator):
    run_device, run_dtype = torch.device("cpu"), torch.float32
    def memory_estimate(self, height, width, batch=1, **options):
        return 1
    def inference(self, img0, img1, *, scale, TTA, timestep, ensemble):
        return img0.clone()
"""
