"""The setting that counts subnormal numbers as zero: inside only, and only in its own thread."""

from __future__ import annotations

import subprocess
import sys

import torch

from mixerlens.subnormals import subnormals_as_zero

SMALL = "torch.full((2**20,), 1e-310, dtype=torch.float64)"


def test_the_setting_is_put_back():
    tiny = torch.full((1,), 1e-310, dtype=torch.float64)
    with subnormals_as_zero():
        assert float(tiny * 1.0) == 0
        with subnormals_as_zero():
            pass
        assert float(tiny * 1.0) == 0
    assert float(tiny * 1.0) == 1e-310


def test_torchs_own_threads_do_not_keep_it():
    """In a process of its own, whose threads are first wanted inside."""
    code = (
        "import torch; torch.set_num_threads(2); from mixerlens.subnormals import subnormals_as_zero\n"
        f"with subnormals_as_zero():\n    torch.ones(2**20).mul_(2)\nprint(int(({SMALL} * 1.0 == 0).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0"], done.stderr


def test_another_default_device_does_not_matter():
    with torch.device("meta"), subnormals_as_zero():
        pass
