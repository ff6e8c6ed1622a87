"""Is a mixer an instance of the one equation? ``mixerlens.membership(mixer, query, key, ...)`` decides with evidence.

This module can be called: it is the function `membership` of the same name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from mixerlens.membership.decide import membership
from mixerlens.membership.record import Finding, Membership

__all__ = ["Finding", "Membership", "membership"]


class _Callable(ModuleType):
    """So that mixerlens.membership(...) works: importing a package puts it where a function of its name would be."""

    def __call__(self, *arguments: Any, **named: Any) -> Membership:
        return membership(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
