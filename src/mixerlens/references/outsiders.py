"""Mixers that are not coefficient dynamics, written plainly in float64 from the definitions of their papers.

All take (query, key, value) (batch, time, heads, dim), then their gates and weights, and return (batch, time, heads,
value_dim) float64.  Value is what a token writes; query, key and gates stay as given whatever the values are.  In the
recurrent networks a token enters through several gates: here its value is the input of the cell, its key the input of
the gate that lets the cell be written, its query the input of the gate that the cell is read (output gate) or recalled
(reset gate) through.  Everything after these inputs is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gelu, logsigmoid

from .plain import double, per_head


def stick_breaking_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None, attend_current: bool = False
) -> Tensor:
    """``y_i = sum_j beta_ij prod_{j < l < i} (1 - beta_il) v_j``, ``beta_ij = sigmoid(scale q_i . k_j)``.

    The stick is broken from the nearest token backwards; token i itself takes no part unless ``attend_current``.
    scale: default 1 / sqrt(dim).  Source: Tan et al., arXiv 2410.17980.
    """
    heads = query.shape[2]
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    rows = []
    for i in range(q.shape[1]):
        seen = i + 1 if attend_current else i
        beta = torch.sigmoid(scale * torch.einsum("bhd,bjhd->bhj", q[:, i], k[:, :seen]))
        rest = torch.cumprod(1 - beta.flip(-1), -1).flip(-1)  # what is left of the stick after token j took its part
        left = torch.cat([rest[..., 1:], torch.ones_like(beta[..., :1])], -1)
        rows.append(torch.einsum("bhj,bjhe->bhe", left * beta, v[:, :seen]))
    return torch.stack(rows, dim=1)


def top_k_attention(
    query: Tensor, key: Tensor, value: Tensor, *, keep: int, scale: float | None = None, causal: bool = True
) -> Tensor:
    """Softmax attention over the ``keep`` largest scores of each row; every other score is masked out.

    scale: default 1 / sqrt(dim).  Scores that tie with the last one kept stay.  Source: Zhao et al., arXiv 1912.11637.
    """
    heads = query.shape[2]
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    rows = []
    for i in range(q.shape[1]):
        seen = i + 1 if causal else q.shape[1]
        score = scale * torch.einsum("bhd,bjhd->bhj", q[:, i], k[:, :seen])
        least = score.topk(min(keep, seen), dim=-1).values[..., -1:]
        weight = torch.softmax(score.masked_fill(score < least, -math.inf), dim=-1)
        rows.append(torch.einsum("bhj,bjhe->bhe", weight, v[:, :seen]))
    return torch.stack(rows, dim=1)


def ttt_layer_norm(
    query: Tensor, key: Tensor, value: Tensor, *, weight: Tensor, rate: Tensor, mini_batch: int = 1, eps: float = 1e-6
) -> Tensor:
    """``f(x; W) = x + LN(W x)``; W takes a step against the gradient of ``|f(k_t; W) - v_t|^2``; ``y_t = f(q_t; W_t)``.

    weight: W before the first token (heads, dim, dim), value_dim = dim; rate: step sizes (batch, time, heads).
    mini_batch: gradients are taken at the weights of the last full mini-batch.  Source: TTT-Linear, Sun et al.,
    arXiv 2407.04620; LN without learned gain and bias.
    """

    def model(weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
        return x + _layer_norm(_apply(weights[0], x), eps)

    return _test_time_training(model, (weight,), query, key, value, rate, mini_batch)


def ttt_mlp(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    first: Tensor,
    second: Tensor,
    rate: Tensor,
    mini_batch: int = 1,
    eps: float = 1e-6,
) -> Tensor:
    """As :func:`ttt_layer_norm` with ``f(x; W) = x + LN(W2 gelu(W1 x))``.

    first (heads, hidden, dim), second (heads, dim, hidden); hidden is 4 dim in the paper.
    Source: TTT-MLP, Sun et al., arXiv 2407.04620.
    """

    def model(weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
        return x + _layer_norm(_apply(weights[1], gelu(_apply(weights[0], x))), eps)

    return _test_time_training(model, (first, second), query, key, value, rate, mini_batch)


def _test_time_training(model, weights, query, key, value, rate, mini_batch) -> Tensor:
    """One gradient step a token on the weights of ``model``; every (batch, head) has its own."""
    heads = query.shape[2]
    q, k, v = per_head(query, heads), per_head(key, heads), per_head(value, heads)
    rate = double(rate)
    held = tuple(double(w).expand(q.shape[0], *w.shape) for w in weights)  # at the start of the mini-batch
    now = held
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, rate, *held))
    rows = []
    for t in range(q.shape[1]):
        if t % mini_batch == 0:
            held = now

        def loss(weights: tuple[Tensor, ...], t: int = t) -> Tensor:
            return ((model(weights, k[:, t]) - v[:, t]) ** 2).sum()

        step = rate[:, t, :, None, None]
        now = tuple(w - step * g for w, g in zip(now, _gradient(loss, held, recorded), strict=True))
        rows.append(model(now, q[:, t]))
    return torch.stack(rows, dim=1)


def _gradient(
    loss: Callable[[tuple[Tensor, ...]], Tensor], weights: tuple[Tensor, ...], recorded: bool
) -> tuple[Tensor, ...]:
    """The gradient of a sum of losses; ``recorded``: it can be differentiated again."""
    with torch.enable_grad():
        weights = tuple(w if w.requires_grad else w.detach().requires_grad_() for w in weights)
        return torch.autograd.grad(loss(weights), weights, create_graph=recorded)


def lstm(query: Tensor, key: Tensor, value: Tensor, *, forget: Tensor, recurrent: Tensor) -> Tensor:
    """``c_t = f_t c_{t-1} + i_t tanh(v_t + R_z h_{t-1})``, ``h_t = o_t tanh(c_t)``, y = h.

    ``i_t = sigmoid(k_t + R_i h_{t-1})``, ``f_t = sigmoid(forget_t + R_f h_{t-1})``, ``o_t = sigmoid(q_t + R_o
    h_{t-1})``: the value is the cell's input, key and query feed the input and the output gate.  query, key, value and
    forget (batch, time, heads, dim), dim = value_dim; recurrent (4, heads, dim, dim): R_i, R_f, R_z, R_o.
    Source: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000.
    """
    q, k, v, f = (double(x) for x in (query, key, value, forget))
    R = double(recurrent)
    h, c = torch.zeros_like(v[:, 0]), torch.zeros_like(v[:, 0])
    rows = []
    for t in range(v.shape[1]):
        write = torch.sigmoid(k[:, t] + _apply(R[0], h))
        keep = torch.sigmoid(f[:, t] + _apply(R[1], h))
        cell = torch.tanh(v[:, t] + _apply(R[2], h))
        out = torch.sigmoid(q[:, t] + _apply(R[3], h))
        c = keep * c + write * cell
        h = out * torch.tanh(c)
        rows.append(h)
    return torch.stack(rows, dim=1)


def gru(query: Tensor, key: Tensor, value: Tensor, *, recurrent: Tensor) -> Tensor:
    """``h_t = (1 - z_t) h_{t-1} + z_t tanh(v_t + R_h (r_t h_{t-1}))``, y = h.

    ``z_t = sigmoid(k_t + R_z h_{t-1})``, ``r_t = sigmoid(q_t + R_r h_{t-1})``: the value is the candidate's input, key
    and query feed the update and the reset gate.  All (batch, time, heads, dim), dim = value_dim; recurrent (3, heads,
    dim, dim): R_r, R_z, R_h.  Source: Cho et al., arXiv 1406.1078, with z and 1 - z exchanged (a name, not a change).
    """
    q, k, v = (double(x) for x in (query, key, value))
    R = double(recurrent)
    h = torch.zeros_like(v[:, 0])
    rows = []
    for t in range(v.shape[1]):
        reset = torch.sigmoid(q[:, t] + _apply(R[0], h))
        update = torch.sigmoid(k[:, t] + _apply(R[1], h))
        candidate = torch.tanh(v[:, t] + _apply(R[2], reset * h))
        h = (1 - update) * h + update * candidate
        rows.append(h)
    return torch.stack(rows, dim=1)


def slstm(query: Tensor, key: Tensor, value: Tensor, *, forget: Tensor, recurrent: Tensor) -> Tensor:
    """``c_t = f_t c_{t-1} + i_t tanh(v_t + R_z h_{t-1})``, ``n_t = f_t n_{t-1} + i_t``, ``h_t = o_t c_t / n_t``, y = h.

    ``i_t = exp(k_t + R_i h_{t-1})``, ``f_t = sigmoid(forget_t + R_f h_{t-1})``, ``o_t = sigmoid(q_t + R_o h_{t-1})``,
    kept in range by the running maximum m of the log gates, which leaves h as it is.  Shapes as :func:`lstm`.
    Source: Beck et al., arXiv 2405.04517.
    """
    q, k, v, f = (double(x) for x in (query, key, value, forget))
    R = double(recurrent)
    h, c, n = (torch.zeros_like(v[:, 0]) for _ in range(3))
    m = torch.full_like(h, -math.inf)
    rows = []
    for t in range(v.shape[1]):
        log_write = k[:, t] + _apply(R[0], h)
        log_keep = logsigmoid(f[:, t] + _apply(R[1], h)) + m
        cell = torch.tanh(v[:, t] + _apply(R[2], h))
        out = torch.sigmoid(q[:, t] + _apply(R[3], h))
        m = torch.maximum(log_keep, log_write)
        c = torch.exp(log_keep - m) * c + torch.exp(log_write - m) * cell
        n = torch.exp(log_keep - m) * n + torch.exp(log_write - m)
        h = out * c / n
        rows.append(h)
    return torch.stack(rows, dim=1)


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix a head, (..., heads, m, n) on (batch, heads, n)."""
    return (matrix @ x[..., None])[..., 0]


def _layer_norm(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
