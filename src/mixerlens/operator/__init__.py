"""Algorithms on the primitives of an evolution, written once for all kinds."""

from mixerlens.operator.memory import budget as memory_budget
from mixerlens.operator.operator import CoefficientOperator
from mixerlens.operator.oracle import oracle, oracle_coefficients
from mixerlens.operator.sum import SumOperator

__all__ = ["CoefficientOperator", "SumOperator", "memory_budget", "oracle", "oracle_coefficients"]
