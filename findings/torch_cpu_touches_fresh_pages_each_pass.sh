#!/usr/bin/env bash
# PyTorch (2.13.0) on a CPU with glibc takes fresh pages from the system for every pass over pictures, however often the same pass runs.
# Eight sums of a 4 MB picture, freed and made again: 8,248 page faults each time, as many as the pictures have pages. PyTorch keeps no
# cache of freed memory on a CPU, and glibc gives back what is freed at the top of its heap beyond twice the largest block that was ever
# freed (M_TRIM_THRESHOLD follows M_MMAP_THRESHOLD, mallopt(3)): with tensors of 4 MB that is 8 MB. Freeing one tensor of nearly 32 MB
# that was never touched ends it for the rest of the process: no faults, and the same sums in a tenth of the time. One of 32 MiB
# or more does not: such blocks do not count. So how fast a network runs depends on what other tensors a program has freed before, and
# two libraries that are compared in one process share the luck. This pack frees such a block before its first pass on a CPU.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.2.6
cat > run.py <<'PY'
import os
import platform
import resource
import time

import torch

torch.set_num_threads(1)
PICTURE = torch.rand(3, 480, 736)
PAGES = 8 * PICTURE.nbytes / os.sysconf("SC_PAGESIZE")


def work():
    sums = [PICTURE + i for i in range(8)]
    return sum(float(one[0, 0, 0]) for one in sums)


def faults_and_time():
    """Of one call, once the first ones are done."""
    for _ in range(5):
        work()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(40):
        work()
    took = (time.perf_counter() - start) / 40
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 40, took


print("torch", torch.__version__, *platform.libc_ver(), f"{PAGES:.0f} pages in eight pictures")
first = faults_and_time()
torch.empty(32 << 20, dtype=torch.uint8)  # freed at once
still = faults_and_time()
torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)
then = faults_and_time()
for name, (faults, took) in {"at first": first, "32 MiB freed": still, "a little less freed": then}.items():
    print(f"{name}: {faults:.0f} page faults a call, {1e3 * took:.2f} ms")
assert first[0] > 0.9 * PAGES and still[0] > 0.9 * PAGES, "freed memory is kept from the beginning"
assert then[0] < 0.05 * PAGES, "freed memory is not kept"
print("as described")
PY
env/bin/python run.py
