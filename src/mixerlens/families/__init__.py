"""Architectures as coefficient dynamics: plain tensors in, a CoefficientDynamics out. One row a family."""

from collections.abc import Callable

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.families.attention import softmax_attention
from mixerlens.families.delta import delta_net, gated_delta_net
from mixerlens.families.linear import gated_linear_attention, linear_attention, retention
from mixerlens.families.ssm import mamba, mamba2, s4d

REGISTRY: dict[str, Callable[..., CoefficientDynamics]] = {
    function.__name__: function
    for function in (
        softmax_attention,
        linear_attention,
        retention,
        gated_linear_attention,
        s4d,
        mamba,
        mamba2,
        delta_net,
        gated_delta_net,
    )
}

__all__ = ["REGISTRY", *REGISTRY]
