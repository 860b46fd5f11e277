#!/usr/bin/env bash
# PyTorch (2.13.0) convolves in bfloat16 and float16 on CPUs without AVX-512, too, without a word, in 5 to 17 times the time of float32,
# and under torch.autocast("cpu"), whose default is bfloat16, likewise. Converting to float32, convolving there and converting back takes
# little more than float32 alone and rounds less. So a model that was loaded in half precision, as most are for GPUs, crawls on such a
# machine, and "half the bytes" is no gain there. oneDNN's fused convolution, which torch.compile calls, refuses bfloat16 instead:
# "bf16 path needs the cpu support avx_ne_convert or avx512bw, avx512vl and avx512dq".
# Seen on an AMD EPYC that has AVX2 only; ONEDNN_MAX_CPU_ISA makes other x86 CPUs do the same. This pack goes by way of float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6
cat > run.py <<'PY'
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.set_grad_enabled(False)
IMAGE = torch.rand(1, 64, 120, 180).contiguous(memory_format=torch.channels_last)
WEIGHT = torch.randn(64, 64, 3, 3)


def seconds(function):
    function()
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


plain = seconds(lambda: F.conv2d(IMAGE, WEIGHT, padding=1))
print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; float32 {1e3 * plain:.1f} ms")
for dtype in (torch.bfloat16, torch.float16):
    image, weight = IMAGE.to(dtype), WEIGHT.to(dtype)
    direct = seconds(lambda: F.conv2d(image, weight, padding=1)) / plain
    around = seconds(lambda: F.conv2d(image.float(), weight.float(), padding=1).to(dtype)) / plain
    print(f"{dtype}: {direct:.1f} times as long, by way of float32 {around:.1f} times")
    assert direct > 3 and around < 2.5, "half precision is no slower any more"
PY
ONEDNN_MAX_CPU_ISA=AVX2 env/bin/python run.py
