"""Diagonal state space models as rings of coupled nodes, and the waves that travel on them (arXiv 2604.20595)."""

from mixerlens.ring.convert import from_modes, from_ssm
from mixerlens.ring.network import RingNetwork, RingRun, circulant, to_modes, to_nodes

__all__ = ["RingNetwork", "RingRun", "circulant", "from_modes", "from_ssm", "to_modes", "to_nodes"]
