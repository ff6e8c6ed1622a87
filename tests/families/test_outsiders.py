"""Mixers outside the family: their plain forms against other implementations, and the error that asking gives."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch.autograd.functional import jacobian

from families.helpers import randn
from mixerlens import errors, families, references
from mixerlens.families.outsiders import OUTSIDERS
from mixerlens.references import outsiders

BATCH, TIME, HEADS, DIM = 2, 9, 2, 4
GRID = (BATCH, TIME, HEADS)


def close(got, want, bar=1e-12):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


@pytest.fixture
def qkv():
    return randn(*GRID, DIM), randn(*GRID, DIM), randn(*GRID, DIM)


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=lambda o: o.name)
def test_asking_for_one_raises_its_witness(outsider):
    ask = getattr(families.outsiders, outsider.name)
    ask_again = lambda: ask(randn(1, 4, 1, 2), key=None)
    with pytest.raises(errors.NonMemberError) as caught:
        ask_again()
    assert isinstance(caught.value, errors.UnsupportedError)
    witness, message = caught.value.witness, str(caught.value)
    assert witness.outcome == "refutes"
    assert "\n" not in message and outsider.title in message and witness.measured in message and witness.bar in message
    json.dumps(witness.to_json(), allow_nan=False)
    taken = []
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(errors.NonMemberError) as again:
            ask_again()
        taken.append(time.process_time() - start)
        assert again.value.witness.to_json() == witness.to_json()  # seeded
    assert min(taken) < 0.5


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=lambda o: o.name)
def test_the_witness_does_not_hang_on_one_draw(outsider):
    for seed in range(5):
        witness = outsider.witness(seed)
        assert witness.outcome == "refutes"
        if outsider.kind == "linear":
            assert witness.numbers["defect"] > 0.1
        elif outsider.kind == "ridge":
            assert witness.numbers["ranks"] == [2, 3, 4, 5, 6, 7]
        else:
            assert witness.numbers["jump"] > 0.01


def test_the_witness_is_measured():
    """With the mixer exchanged for a member, the registered outsider no longer refuses."""
    from dataclasses import replace

    class Member(type(OUTSIDERS[0])):
        reference = property(lambda self: lambda query, key, value: value.cumsum(1))

    fields = {name: getattr(OUTSIDERS[0], name) for name in ("name", "title", "example", "kind", "source", "note")}
    for kind in ("linear", "support", "ridge"):
        with pytest.raises(RuntimeError, match="does not refute"):
            replace(Member(**fields), kind=kind).refuse()


def test_examples_are_seeded_and_run():
    for outsider in OUTSIDERS:
        one, same, other = (outsider.arguments(seed) for seed in (0, 0, 1))
        assert all(torch.equal(one[x], same[x]) for x in one if isinstance(one[x], torch.Tensor))
        assert not torch.equal(one["query"], other["query"])
        y = outsider.reference(**one)
        assert y.shape == one["value"].shape and y.dtype == torch.float64 and bool(torch.isfinite(y).all())


@pytest.mark.parametrize("current", [False, True])
def test_stick_breaking_breaks_a_stick(qkv, current):
    """Token by token from the nearest: what a token takes of what is left, as two plain loops."""
    q, k, v = qkv
    got = outsiders.stick_breaking_attention(q, k, v, attend_current=current)
    want = torch.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(TIME):
                left = 1.0
                for j in range(i if current else i - 1, -1, -1):
                    beta = 1 / (1 + torch.exp(-q[b, i, h] @ k[b, j, h] / 2))
                    want[b, i, h] += left * beta * v[b, j, h]
                    left = left * (1 - beta)
    close(got, want)


def test_top_k_is_softmax_over_what_it_keeps(qkv):
    q, k, v = qkv
    close(outsiders.top_k_attention(q, k, v, keep=TIME), references.softmax_attention(query=q, key=k, value=v))
    score = torch.einsum("bihd,bjhd->bhij", q, k) / 2
    rank = (score[..., None, :] > score[..., :, None]).sum(-1)  # how many are larger
    alpha = torch.where(rank < 3, score.exp(), 0.0)
    alpha = alpha / alpha.sum(-1, keepdim=True)
    want = torch.einsum("bhij,bjhe->bihe", alpha, v)
    close(outsiders.top_k_attention(q, k, v, keep=3, causal=False), want)
    causal = outsiders.top_k_attention(q, k, v, keep=3)
    close(causal[:, -1], want[:, -1])
    close(causal[:, :3], references.softmax_attention(query=q, key=k, value=v)[:, :3])


def _layer_norm_step(W, x, target, rate):
    """One step on |x + LN(W x) - target|^2 with the gradient of a layer norm written out."""
    z = W @ x
    centred, n = z - z.mean(), len(z)
    spread = torch.sqrt((centred**2).mean() + 1e-6)
    unit = centred / spread
    out = 2 * (x + unit - target)
    back = (out - out.mean() - unit * (out @ unit) / n) / spread
    return W - rate * torch.outer(back, x)


def _layer_normed(W, x):
    return x + torch.nn.functional.layer_norm(W @ x, (len(x),), eps=1e-6)


@pytest.mark.parametrize("mini_batch", [1, 4])
def test_ttt_is_gradient_descent_written_out(qkv, mini_batch):
    q, k, v = qkv
    W0, rate = randn(HEADS, DIM, DIM), torch.rand(*GRID, dtype=torch.float64)
    got = outsiders.ttt_layer_norm(q, k, v, weight=W0, rate=rate, mini_batch=mini_batch)
    want = torch.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            W = held = W0[h]
            for t in range(TIME):
                held = W if t % mini_batch == 0 else held
                W = W + _layer_norm_step(held, k[b, t, h], v[b, t, h], rate[b, t, h]) - held
                want[b, t, h] = _layer_normed(W, q[b, t, h])
    close(got, want)


def test_ttt_mlp_takes_a_step_on_both_layers(qkv):
    q, k, v = qkv
    first, second = randn(HEADS, 3, DIM), randn(HEADS, DIM, 3)
    rate = torch.rand(*GRID, dtype=torch.float64) / 5
    got = outsiders.ttt_mlp(q, k, v, first=first, second=second, rate=rate)
    b, h = 1, 0
    one, two = first[h], second[h]

    def model(one, two, x):
        hidden = one @ x
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        return x + torch.nn.functional.layer_norm(two @ hidden, (DIM,), eps=1e-6)

    for t in range(TIME):
        loss = lambda a, c, t=t: ((model(a, c, k[b, t, h]) - v[b, t, h]) ** 2).sum()
        steps = jacobian(loss, (one, two))
        one, two = one - rate[b, t, h] * steps[0], two - rate[b, t, h] * steps[1]
        close(got[b, t, h], model(one, two, q[b, t, h]))


def test_ttt_without_a_norm_would_be_the_delta_rule():
    """The one thing that makes it no member: the same gradient step without LN is DeltaNet with beta = 2 rate."""
    q, k, v = (randn(1, TIME, 1, DIM) for _ in range(3))
    rate = torch.rand(1, TIME, 1, dtype=torch.float64) / 4
    W, rows = torch.zeros(DIM, DIM, dtype=torch.float64), []
    for t in range(TIME):
        W = W - rate[0, t, 0] * 2 * torch.outer(W @ k[0, t, 0] - v[0, t, 0], k[0, t, 0])
        rows.append(W @ q[0, t, 0])
    close(references.delta_net(query=q, key=k, value=v, beta=2 * rate)[0, :, 0], torch.stack(rows))


def _by_torch(module, inputs, weights):
    """A recurrent layer of torch whose input weights are the identity."""
    size = inputs.shape[-1]
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.eye(size))
        module.weight_hh_l0.copy_(weights)
    return module(inputs)[0]


def test_lstm_is_torchs(qkv):
    q, k, v = qkv
    forget, R = randn(*GRID, DIM), randn(4, HEADS, DIM, DIM)
    got = outsiders.lstm(q, k, v, forget=forget, recurrent=R)
    for h in range(HEADS):
        layer = torch.nn.LSTM(4 * DIM, DIM, batch_first=True, bias=False, dtype=torch.float64)
        inputs = torch.cat([k[:, :, h], forget[:, :, h], v[:, :, h], q[:, :, h]], -1)
        close(got[:, :, h], _by_torch(layer, inputs, R[:, h].reshape(4 * DIM, DIM)))


def test_gru_is_torchs_where_the_two_definitions_agree(qkv):
    """torch resets after the matrix, the paper before it: the same for a diagonal one. torch's z is 1 - z here."""
    q, k, v = qkv
    R = randn(3, HEADS, DIM, DIM)
    R[2] = torch.diag_embed(torch.diagonal(R[2], dim1=-2, dim2=-1))
    got = outsiders.gru(q, k, v, recurrent=R)
    for h in range(HEADS):
        layer = torch.nn.GRU(3 * DIM, DIM, batch_first=True, bias=False, dtype=torch.float64)
        inputs = torch.cat([q[:, :, h], -k[:, :, h], v[:, :, h]], -1)
        close(got[:, :, h], _by_torch(layer, inputs, torch.cat([R[0, h], -R[1, h], R[2, h]])))


def test_gru_resets_before_the_matrix(qkv):
    """The paper's form, one step by hand with a matrix that is not diagonal."""
    q, k, v = (x[:1, :2, :1] for x in qkv)
    R = randn(3, 1, DIM, DIM)
    got = outsiders.gru(q, k, v, recurrent=R)
    h = torch.sigmoid(k[0, 0, 0]) * torch.tanh(v[0, 0, 0])
    close(got[0, 0, 0], h)
    r, z = torch.sigmoid(q[0, 1, 0] + R[0, 0] @ h), torch.sigmoid(k[0, 1, 0] + R[1, 0] @ h)
    close(got[0, 1, 0], (1 - z) * h + z * torch.tanh(v[0, 1, 0] + R[2, 0] @ (r * h)))


def test_slstm_is_its_definition_without_the_running_maximum(qkv):
    q, k, v = qkv
    forget, R = randn(*GRID, DIM), randn(4, HEADS, DIM, DIM)
    got = outsiders.slstm(q, k, v, forget=forget, recurrent=R)
    for b in range(BATCH):
        for h in range(HEADS):
            c, n, y = (torch.zeros(DIM, dtype=torch.float64) for _ in range(3))
            for t in range(TIME):
                i = torch.exp(k[b, t, h] + R[0, h] @ y)
                f = 1 / (1 + torch.exp(-forget[b, t, h] - R[1, h] @ y))
                c = f * c + i * torch.tanh(v[b, t, h] + R[2, h] @ y)
                n = f * n + i
                y = c / n / (1 + torch.exp(-q[b, t, h] - R[3, h] @ y))
                close(got[b, t, h], y)
    large = outsiders.slstm(q, 1000 * k, v, forget=forget, recurrent=R)
    assert bool(torch.isfinite(large).all())  # exp of a thousand is not


def test_slstm_without_recurrent_mixing_is_a_member_of_its_squashed_values(qkv):
    """R = 0: the gates no longer read the output, and y is linear in tanh(v). The name says which one is outside."""
    from mixerlens import membership

    q, k, _ = (randn(1, 40, 1, 3) for _ in range(3))
    forget = 1 + randn(1, 40, 1, 3)

    def mixer(query, key, squashed):
        gate = torch.zeros(4, 1, 3, 3, dtype=torch.float64)
        return outsiders.slstm(query, key, torch.atanh(squashed), forget=forget, recurrent=gate)

    small = lambda query, key, value: 100 * mixer(query, key, value.clamp(-1, 1) / 100)
    one, two = torch.rand(2, 1, 40, 1, 3, dtype=torch.float64)
    split = small(q, k, one / 2) + small(q, k, two / 2)
    close(small(q, k, (one + two) / 2), split, 1e-10)
    assert membership(outsiders.slstm, q, k, forget=forget, recurrent=torch.zeros(4, 1, 3, 3)).verdict == "not a member"


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=lambda o: o.name)
def test_plain_forms_can_be_differentiated(outsider):
    given = outsider.arguments()
    given["value"].requires_grad_()
    given["query"].requires_grad_()
    y = outsider.reference(**given)
    weight = randn(*y.shape)
    along, step = randn(*y.shape), 1e-6
    (slope,) = torch.autograd.grad((weight * y).sum(), given["value"], retain_graph=True)
    with torch.no_grad():
        value = given.pop("value")
        up, down = (outsider.reference(value=value + s * step * along, **given) for s in (1, -1))
    quotient = (weight * (up - down)).sum() / (2 * step)
    assert abs(float((slope * along).sum() - quotient)) <= 1e-5 * float(quotient.abs() + 1)
