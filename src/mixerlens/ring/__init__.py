"""Diagonal state space models as rings of coupled nodes, and the waves that travel on them (arXiv 2604.20595)."""

from mixerlens.ring.convert import from_modes, from_ssm
from mixerlens.ring.history import History, history
from mixerlens.ring.network import RingNetwork, RingRun, circulant, to_modes, to_nodes
from mixerlens.ring.oscillators import LINEAR_IN_DISGUISE, Oscillation, kuramoto_sakaguchi, oscillate
from mixerlens.ring.real import RealRing, real_ring
from mixerlens.ring.scattering import scattering_series
from mixerlens.ring.survey import NoRing, Survey, survey
from mixerlens.ring.waves import Dispersion, Waves, dispersion, participation_ratio, waves

__all__ = [
    "LINEAR_IN_DISGUISE",
    "Dispersion",
    "History",
    "NoRing",
    "Oscillation",
    "RealRing",
    "RingNetwork",
    "RingRun",
    "Survey",
    "Waves",
    "circulant",
    "dispersion",
    "from_modes",
    "from_ssm",
    "history",
    "kuramoto_sakaguchi",
    "oscillate",
    "participation_ratio",
    "real_ring",
    "scattering_series",
    "survey",
    "to_modes",
    "to_nodes",
    "waves",
]
