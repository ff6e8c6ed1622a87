"""Filters that are modules of their own: against a plain sum over taps, or refused with the reason."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixerlens import references
from mixerlens.capture.call import LayerInfo
from mixerlens.capture.inline import filters
from mixerlens.capture.recorder import Recorder, Site


class PadsByItself(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, (self.dilation[0] * (self.kernel_size[0] - 1), 0)))


class LooksAhead(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, (1, 1)))


def recorded(module, x):
    """What one call of the module is recorded as."""
    recorder = Recorder([Site(module, LayerInfo(0, "filter", "convolution", "short_convolution"))])
    with filters.watch(module, recorder), torch.no_grad():
        output = module(x)
    assert not module._forward_hooks
    return recorder, output


def depthwise(kind=nn.Conv1d, width=3, channels=4, **more):
    return kind(channels, channels, width, groups=channels, **more).double()


def front(x, zeros):
    x[..., :zeros] = 0
    return x


@pytest.mark.parametrize(
    ("module", "x", "tokens"),
    [
        (depthwise(padding=2), torch.randn(2, 4, 9), 9),
        (depthwise(padding=2, bias=False), torch.randn(2, 4, 9), 9),
        (depthwise(), front(torch.randn(2, 4, 9), 2), 7),
        (depthwise(width=4, dilation=3), front(torch.randn(2, 4, 20), 9), 11),
        (depthwise(PadsByItself, dilation=2), torch.randn(2, 4, 9), 9),
        (nn.ZeroPad2d((0, 0, 1, -1)), torch.randn(2, 9, 4), 9),
    ],
)
def test_a_causal_filter_is_its_taps(module, x, tokens):
    assert filters.recognise(module)
    recorder, output = recorded(module, x.double())
    (call,) = recorder.calls().values()
    assert call.values.shape == call.output.shape == (2, tokens, 4, 1)
    ours = call.predict(references.short_convolution(value=call.values, **call.arguments))
    theirs = output if isinstance(module, nn.ZeroPad2d) else output[..., :tokens].mT
    torch.testing.assert_close(ours[..., 0], theirs, atol=1e-13, rtol=0)
    torch.testing.assert_close(call.output[..., 0], theirs, atol=0, rtol=0)
    torch.testing.assert_close(call.predict(call.mixed()), ours, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("module", "x", "why"),
    [
        (depthwise(padding=1), torch.randn(1, 4, 9), r"padding of \(1,\) lets a token see those after it"),
        (depthwise(padding="same"), torch.randn(1, 4, 9), "padding of same lets a token see those after it"),
        (depthwise(), torch.randn(1, 4, 9), "the first 2 inputs of its convolution are no zeros"),
        (depthwise(LooksAhead), torch.randn(1, 4, 9), "no causal filter of its inputs"),
    ],
)
def test_another_filter_is_refused(module, x, why):
    recorder, _ = recorded(module, x.double())
    assert not recorder.calls()
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(recorder.refused()["filter"].reason)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(4, 4, 3),
        nn.Conv1d(4, 8, 3, groups=4),
        nn.Conv1d(4, 4, 1, groups=4),
        nn.Conv1d(4, 4, 3, groups=4, stride=2),
        nn.Conv1d(4, 4, 3, groups=4, padding=2, padding_mode="circular"),
        nn.ZeroPad2d((0, 0, 1, 0)),
    ],
)
def test_what_is_no_filter_a_channel_is_not_recognised(module):
    assert not filters.recognise(module)
