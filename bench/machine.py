"""What the machine is, and what it can do: GEMM, FFT, copy and exponentials, measured in the same run."""

from __future__ import annotations

import math
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bench.timing import interleaved, summary

GEMM_SIZE = 1024
FFT_SIZE, FFT_ROWS = 4096, 64
CACHED, COPIED = 1 << 16, 1 << 26  # elements of exponentials that stay in the cache; bytes of a copy that do not
DISTRIBUTIONS = ("torch", "numpy", "transformers", "mambapy", "transformer-lens")


def rates(seconds: float = 2.0) -> dict[str, dict[str, float]]:
    """Each rate with its unit, from interleaved medians: the machine's own limits beside our results."""
    calls, work, units = {}, {}, {}

    def add(name, unit, amount, call):
        calls[name], work[name], units[name] = call, amount, unit

    for bits, dtype in ((32, torch.float32), (64, torch.float64)):
        a, b, out = (torch.rand(GEMM_SIZE, GEMM_SIZE, dtype=dtype) for _ in range(3))
        add(f"GEMM float{bits}", "GFLOP/s", 2 * GEMM_SIZE**3, lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
    signal = torch.randn(FFT_ROWS, FFT_SIZE, dtype=torch.complex64)
    # 5 n log2 n operations, as is customary to count a complex transform
    add("FFT complex64", "GFLOP/s", 5 * signal.numel() * math.log2(FFT_SIZE), lambda: torch.fft.fft(signal))
    source = torch.zeros(COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    add("copy", "GB/s read + written", 2 * COPIED, lambda: target.copy_(source))
    x, y = -torch.rand(CACHED), torch.empty(CACHED)
    z = torch.complex(x, x)
    for name, function in (("exp", torch.exp), ("exp2", torch.exp2)):
        add(f"{name} float32", "G/s", CACHED, lambda f=function: f(x, out=y))
    add("exp complex64", "G/s", CACHED, lambda: torch.exp(z))
    measured = interleaved(calls, seconds, sample=seconds / 20)
    return {
        name: {"rate": work[name] / summary(samples)["median"] / 1e9, "unit": units[name]}
        for name, samples in measured.items()
    }  # fmt: skip


def gemm():
    """A call and its flops, to be timed beside the contenders of a case."""
    a, b, out = (torch.rand(GEMM_SIZE, GEMM_SIZE) for _ in range(3))
    return (lambda: torch.mm(a, b, out=out)), 2 * GEMM_SIZE**3


def describe(threads: int) -> dict[str, Any]:
    """CPU model, cores, memory and the versions of all contenders; no host name, no path."""
    from mixerlens import native

    library = native.status()
    return {
        "cpu": _cpu(), "cores": os.cpu_count(), "memory_gib": round(_memory() / 2**30), "threads": threads,
        "system": platform.system(), "python": platform.python_version(), "versions": versions(),
        "vector": torch.backends.cpu.get_cpu_capability(), "native": library.reason or library.instructions,
    }  # fmt: skip


def versions() -> dict[str, str | None]:
    """Version of every contender's distribution; None where it is not installed."""
    import mixerlens

    found: dict[str, str | None] = {"mixerlens": mixerlens.__version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def available() -> int:
    """Bytes of memory that can be used now."""
    try:
        lines = Path("/proc/meminfo").read_text()
        return int(re.findall(r"MemAvailable:\s+(\d+)", lines)[0]) * 1024
    except (OSError, IndexError):
        return _memory() // 2


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|model|cpu family)\s*:\s*(.*)$", text, re.MULTILINE))
    named = fields.get("model name") or platform.machine()
    return f"{named}, family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else named
