"""What families refuse: a forgotten minus sign, a raw step size, an array that is no tensor."""

import numpy as np
import pytest
import torch

from mixerlens import families
from mixerlens.errors import InputError

Q = torch.randn(1, 5, 2, 3)
G, STATE = torch.rand(1, 5, 2), torch.randn(1, 5, 4)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: families.gated_linear_attention(query=Q, key=Q, log_decay=Q.abs()), "log_decay must not be positive"),
        (lambda: families.gated_delta_net(query=Q, key=Q, log_decay=G, beta=G), "log_decay must not be positive"),
        (lambda: families.mamba(A=torch.ones(2, 4), B=STATE, C=STATE, dt=G), "-exp\\(A_log\\)"),
        (lambda: families.mamba(A=-torch.ones(2, 4), B=STATE, C=STATE, dt=-G), "dt must not be negative"),
        (lambda: families.mamba2(A=torch.ones(2), B=STATE[:, :, None], C=STATE[:, :, None], dt=G), "A must not"),
        (lambda: families.softmax_attention(query=np.zeros((1, 5, 2, 3)), key=Q), "query is a ndarray"),
        (lambda: families.linear_attention(query=Q, key=None), "key is a NoneType"),
    ],
)
def test_a_likely_slip_is_refused_by_name(call, what):
    with pytest.raises(InputError, match=what):
        call()


def test_the_borders_are_allowed():
    closed = families.gated_delta_net(query=Q, key=Q, log_decay=torch.zeros_like(G) - torch.inf, beta=G)
    assert closed.operator().to_dense().isfinite().all()
    families.mamba(A=torch.zeros(2, 4), B=STATE, C=STATE, dt=torch.zeros_like(G))


@pytest.mark.parametrize("index", ["a", 1.5, [0.5], None])
def test_an_index_that_is_no_token_is_refused(index):
    with pytest.raises(InputError, match="is no token"):
        families.linear_attention(query=Q, key=Q).operator().row(index)


@pytest.mark.parametrize("number", [2.5, 0, "3"])
def test_pixels_and_k_are_whole_numbers(number):
    op = families.linear_attention(query=Q, key=Q).operator()
    with pytest.raises(InputError, match="whole number"):
        op.heatmap(number)
    with pytest.raises(InputError, match="whole number"):
        op.top_k(number)
