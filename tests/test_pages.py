"""Large tensors in large pages are what torch's own would be, and lie in large pages where the system has them."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import torch

from mixerlens import pages

MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ROLLUP = Path("/proc/self/smaps_rollup")
ON_REQUEST = MODE.exists() and ROLLUP.exists() and "[madvise]" in MODE.read_text()
SHAPES = [(), (0,), (3,), (2, 0, 5), (7, 11), (3, 1031, 523)]  # the last is above the least size in every dtype
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.bfloat16, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_like_torch(shape, dtype):
    for ours, theirs in ((pages.empty, torch.empty), (pages.zeros, torch.zeros)):
        x, y = ours(*shape, dtype=dtype), theirs(shape, dtype=dtype)
        assert (x.shape, x.dtype, x.stride(), x.device) == (y.shape, y.dtype, y.stride(), y.device)
        assert x.is_contiguous() and x.data_ptr() % 64 == 0
        x.fill_(1)
        assert bool((x == 1).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zeros_are_zero_after_memory_was_used(dtype):
    for _ in range(3):
        dirty = pages.empty(3 * 2**20, dtype=dtype).fill_(1)
        del dirty
        assert not pages.zeros(3 * 2**20, dtype=dtype).any()


def test_memory_outlives_what_made_it():
    x = pages.zeros(2**21, dtype=torch.float32)
    part = x[5:].fill_(3.0)
    del x
    gc.collect()
    assert not (pages.zeros(2**21, dtype=torch.float32).any())
    assert bool((part == 3.0).all())


def test_other_devices():
    for make in (pages.empty, pages.zeros):
        assert make(4, 5, dtype=torch.float32, device=torch.device("meta")).is_meta


@pytest.mark.parametrize("lacking", ["another mode", "no such file"])
def test_nothing_happens_without_large_pages(lacking, monkeypatch, tmp_path):
    mode = tmp_path / "enabled"
    if lacking == "another mode":
        mode.write_text("always madvise [never]\n")
    monkeypatch.setattr(pages, "_MODE", mode)
    pages._found.cache_clear()
    try:
        assert pages._found() is None
        assert not pages.zeros(2**21, dtype=torch.float32).any()
        assert pages.empty(2**21, dtype=torch.float32).fill_(1).sum() == 2**21
    finally:
        pages._found.cache_clear()


@pytest.mark.skipif(not ON_REQUEST, reason="this system has no large pages on request")
@pytest.mark.parametrize("make", [pages.empty, pages.zeros])
def test_pages_are_large(make):
    held, size = _large(), 256 * 2**20
    x = make(size // 4, dtype=torch.float32).fill_(1)
    gained = _large() - held
    assert x.nbytes == size
    if not gained:
        pytest.skip("this system has no large page left")
    assert gained > size / 2


def _large() -> int:
    return int(re.findall(r"AnonHugePages:\s+(\d+) kB", ROLLUP.read_text())[0]) * 1024
