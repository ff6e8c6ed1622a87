"""Every family of the registry as a specification, made of the same parts: where a designer starts.

``preset("gated_delta_net")`` has the name of the row of `mixerlens.families`; sizes and parts may be changed at once:
``preset("gated_delta_net", heads=2, dim=8)``.
"""

from __future__ import annotations

from typing import Any

from mixerlens.design.presets.attention import ATTENTION
from mixerlens.design.presets.delta import DELTA
from mixerlens.design.presets.linear import LINEAR
from mixerlens.design.presets.state_space import STATE_SPACE
from mixerlens.design.spec import MixerSpec
from mixerlens.design.values import unknown

PRESETS: dict[str, dict[str, Any]] = ATTENTION | LINEAR | DELTA | STATE_SPACE


def preset(name: str, **changes: Any) -> MixerSpec:
    """The specification of this name, with fields of `MixerSpec` changed. Raises InputError for an unknown name."""
    if name not in PRESETS:
        raise unknown("family (mixerlens design list)", name, PRESETS)
    return MixerSpec.from_dict({"name": name} | PRESETS[name] | changes)
