"""Is a mixer an instance of the one equation? Tests in order, and what they add up to.

The question. With query, key and gates fixed, are there a readout phi, a normaliser eta_i > 0, and vectors u_ij that
evolve as u_jj = b_j k_j, u_ij = A_i u_{i-1,j} in n numbers, such that y_i = sum_j alpha_ij v_j over a support that
positions fix, and alpha_ij = phi(q_i^T u_ij) / eta_i? q_i and k_j are what the mixer is given or linear in it.
Everything that acts on q, k or v before (feature maps, norms, convolutions) is outside: the question can be asked
again without it.

What proves that it is not (verdict "not a member"):

- y is not additive or not homogeneous in v, by more than rounding. Every member is linear in v.
- A third key switches a coefficient on or off by a jump. z_ij = q_i^T u_ij does not contain a key before j, eta_i is
  finite and positive, and the support of a member does not look at data.
- The ridge test finds a pair of coefficients whose log ratio varies in more than two directions of q_i, while another
  pair of the same row keeps to two. u_ij and u_il do not contain q_i, so no phi gives more than two.

What proves that it is: a realisation that reproduces the coefficients of this sequence, and of one with its queries
scaled by 4 (or more, until that turns the rows of alpha: small scores look linear), to the stated tolerance.

- phi = identity: the ranks of the blocks of alpha below the diagonal (the state rank) stop growing with the length,
  at half of what could be seen at most. A causal linear recurrence with that many numbers then exists. "member" if
  the coefficients are linear in q_i up to eta_i; "member by lifting" if they are a polynomial in it (then a rank up
  to the number of monomials will do), or any other function of it (a feature map or a chained system inside).
- phi = exp, sigmoid, softplus, relu, relu squared: the same for the scores phi^{-1}(alpha).
- phi = identity or exp with coefficients that read no key but k_j: a register of at most n T numbers holds them
  (long convolutions, tables of relative biases).
- a mixer that sees both ways is a member if its coefficients or scores have a rank that stops growing (A_t = I), and
  "by lifting" if each half has a state of fixed size: one causal system a direction.
- coefficients that are matrices over channels: "by lifting" if the state rank of the whole stops growing. Each entry
  is a member then, one system a pair of channels (after diagonalisation, a mode).

What proves nothing: passing the tests of linearity, causality, third keys or the ridge. All members pass them; some
mixers pass them that are not covered here: a readout not among those tried (soft-capped scores, gelu), a normalised
sigmoid, a sum of several members (differential attention). The verdict is then "undecided", as it is for a mixer that
is not deterministic, not finite, or seen at too few tokens, and where a realisation and the ridge test disagree.
A rank is a statement about a tolerance, here that of the findings, and about the inputs that were given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.membership.keys import causal, past, support, third_keys
from mixerlens.membership.matrices import matrix_valued
from mixerlens.membership.probe import Probe
from mixerlens.membership.profile import profile
from mixerlens.membership.realise import Search, decision
from mixerlens.membership.record import Finding, Membership
from mixerlens.membership.ridge import ridge
from mixerlens.membership.values import channels, linear, relative, steady


def membership(
    mixer: Callable[..., Tensor],
    query: Inexact[Tensor, "batch time ..."],
    key: Inexact[Tensor, "batch time ..."],
    *,
    value_dim: int | None = None,
    heads: int | None = None,
    seed: int = 0,
    **fixed: Any,
) -> Membership:
    """Ask whether mixer(query, key, value, **fixed) -> y is an instance of the one equation.

    query, key: (batch, time, ...), usually (batch, time, heads, dim); float64 decides most. Give at least 4 tokens a
    number of state, 64 where that is unknown. The mixer is called with values (batch, time, heads, value_dim) and must
    return y of that shape. value_dim: default the key's last size. heads: default the query's axis 2.
    seed: of the values and of the tokens looked at. fixed: gates and weights, handed on as they are.

    Some hundred calls, more where the mixer takes no other value_dim. Raises InputError where the mixer raises or
    returns something else. See `mixerlens.membership.decide` for what proves what.
    """
    probe = _probe(mixer, query, key, value_dim, heads, seed, fixed)
    with torch.no_grad():
        settled = _decide(probe)
    settings = {
        "mixer": getattr(mixer, "__name__", type(mixer).__name__),
        "query": tuple(probe.query.shape),
        "key": tuple(probe.key.shape),
        "value": (probe.batch, probe.time, probe.heads, probe.width),
        "dtype": str(probe.query.dtype).removeprefix("torch."),
        "rounding": probe.precision,
        "seed": seed,
    }
    return Membership(**settled, settings=settings)


def witness(
    kind: Literal["linear", "ridge", "support"],
    mixer: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    *,
    value_dim: int | None = None,
    heads: int | None = None,
    seed: int = 0,
    **fixed: Any,
) -> Finding:
    """One of the three tests that can refute membership, by itself. Arguments as `membership`."""
    probe = _probe(mixer, query, key, value_dim, heads, seed, fixed)
    with torch.no_grad():
        if kind == "linear":
            findings = linear(probe)
            return _first(findings, "refutes") or findings[-1]
        alpha = probe.coefficients()
        if kind == "ridge":
            return ridge(probe, alpha)
        is_causal = causal(probe, alpha).outcome == "holds"
        return support(probe, third_keys(probe, alpha.tril() if is_causal else alpha, is_causal))


def _probe(mixer: Any, query: Any, key: Any, width: int | None, heads: int | None, seed: int, fixed: Any) -> Probe:
    if heads is None and isinstance(query, Tensor):
        if query.dim() != 4:
            raise InputError(f"query has shape {tuple(query.shape)}, not (batch, time, heads, dim): say heads=...")
        heads = query.shape[2]
    if width is None and isinstance(key, Tensor) and key.dim():
        width = key.shape[-1]
    return Probe(mixer, query, key, width or 0, heads or 0, seed, fixed)


def _decide(probe: Probe) -> dict[str, Any]:
    findings = steady(probe)
    if findings[-1].outcome != "holds":
        return _verdict("undecided", findings[-1].meaning, findings)
    findings += linear(probe)
    refuted = _first(findings, "refutes")
    if refuted:
        return _verdict("not a member", f"y is {refuted.meaning}", findings)
    unclear = _first(findings, "unclear")
    if unclear or probe.precision > 1e-5:
        why = unclear.meaning if unclear else f"the mixer rounds by {probe.precision:.0e}: run it in float32 or float64"
        return _verdict("undecided", why, findings)
    findings.append(channels(probe))
    if findings[-1].outcome == "unclear":
        return _verdict("undecided", findings[-1].meaning, findings)
    if findings[-1].outcome == "note":
        return {**matrix_valued(probe, findings), "findings": tuple(findings)}
    return _scalar(probe, findings)


def _scalar(probe: Probe, findings: list[Finding]) -> dict[str, Any]:
    """One alpha a head: its support, its state, its readout."""
    alpha = probe.coefficients()
    value = probe.values()
    y = probe(value).to(alpha)
    off = relative(y - (alpha @ value.transpose(1, 2).to(alpha)).transpose(1, 2), y)
    findings.append(
        Finding(
            "coefficients", "holds" if off <= probe.clear else "unclear",
            "y = sum_j alpha_ij v_j with alpha read off unit values", {"error": off}, f"<= {probe.clear:.0e}",
        )
    )  # fmt: skip
    if findings[-1].outcome == "unclear":
        return _verdict("undecided", "unit values and normal values do not show the same coefficients", findings)
    findings.append(causal(probe, alpha))
    is_causal = findings[-1].outcome == "holds"
    alpha = alpha.tril() if is_causal else alpha
    keys = third_keys(probe, alpha, is_causal)
    findings += [past(probe, keys, is_causal), support(probe, keys)]
    if findings[-1].outcome == "refutes":
        return _verdict("not a member", findings[-1].meaning, findings)
    kinds, finding = profile(probe, alpha)
    findings.append(finding)
    search = Search(probe, alpha, is_causal, kinds, keys)
    found = search.realisation()
    findings += search.findings
    if not search.finite:
        findings.append(ridge(probe, alpha))
    refuted = findings[-1].outcome == "refutes"
    if found and refuted:
        return _verdict("undecided", f"{found['reason']}, but {findings[-1].meaning}: the two disagree", findings)
    if found:
        return {**found, "findings": tuple(findings)}
    if refuted:
        return _verdict("not a member", findings[-1].meaning, findings)
    return _verdict("undecided", search.open_question(findings[-1]), findings)


def _verdict(verdict: str, reason: str, findings: list[Finding]) -> dict[str, Any]:
    return {**decision(verdict, reason), "findings": tuple(findings)}


def _first(findings: list[Finding], outcome: str) -> Finding | None:
    return next((f for f in findings if f.outcome == outcome), None)
