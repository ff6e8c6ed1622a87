"""The gate: no speed is shown of a row in which somebody computes something else."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.case import Case, Contender, Inputs, Outputs, Size


def inputs(case: Case, size: Size) -> Inputs:
    """The case's inputs of that size: the same numbers for everybody, in every process."""
    torch.manual_seed(0)
    return case.make(size)


def error(outputs: Outputs, reference: Outputs) -> float:
    """The largest |difference| of any output, relative to the largest entry of that output's reference."""
    if len(outputs) != len(reference):
        raise ValueError(f"{len(outputs)} outputs, the reference has {len(reference)}")
    return max(_relative(out, exact) for out, exact in zip(outputs, reference, strict=True))


def _relative(out: Tensor, exact: Tensor) -> float:
    if out.shape != exact.shape:
        raise ValueError(f"an output has shape {tuple(out.shape)}, its reference {tuple(exact.shape)}")
    kind = torch.complex128 if exact.is_complex() else torch.float64
    known = torch.isnan(exact) == torch.isnan(out)
    if not bool(known.all()):
        return float("inf")
    exact, out = exact.detach().to(kind).nan_to_num(), out.detach().to(kind).nan_to_num()
    return float((out - exact).abs().max() / exact.abs().max())


def check(case: Case, contender: Contender, size: Size, exact: dict[object, Outputs]) -> float:
    """The contender's error on inputs of that size; ``exact`` keeps references that several contenders share."""
    reference = contender.reference or case.reference
    key = (reference, tuple(size.items()))
    if key not in exact:
        exact[key] = reference(inputs(case, size))
    return error(contender.unpack(contender.call(contender.prepare(inputs(case, size)))), exact[key])
