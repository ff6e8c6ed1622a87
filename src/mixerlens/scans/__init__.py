"""Scans that train: linear in time and memory on any device, differentiable in every argument.

They compute the recurrence alone; skips, gates, biases, softplus, normalisation and scales belong to the caller.
"""

from mixerlens.scans.delta import gated_delta_scan
from mixerlens.scans.mamba import selective_scan
from mixerlens.scans.ssd import ssd_scan

__all__ = ["gated_delta_scan", "selective_scan", "ssd_scan"]
