"""Opens a trained model, runs it once and records what every token mixer was called with."""

from mixerlens.capture.call import LayerInfo, MixerCall, MixerCalls
from mixerlens.capture.lens import Lens, Trace, open

__all__ = ["LayerInfo", "Lens", "MixerCall", "MixerCalls", "Trace", "open"]
