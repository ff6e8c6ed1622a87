"""``mixerlens.accelerate(model)``: our scans inside a transformers model on the CPU, with a certificate.

This module can be called: it is the function `accelerate` of the same name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from mixerlens.accelerate.certificate import AccelerationCertificate
from mixerlens.accelerate.handle import Acceleration, accelerate

__all__ = ["Acceleration", "AccelerationCertificate", "accelerate"]


class _Callable(ModuleType):
    """So that mixerlens.accelerate(...) works: importing a package puts it where a function of its name would be."""

    def __call__(self, *arguments: Any, **named: Any) -> Acceleration:
        return accelerate(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
