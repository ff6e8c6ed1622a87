"""Which modules of a model are token mixers, and which look like one that nobody here can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from mixerlens.capture.adapter import Adapter, adapters, filter_adapter
from mixerlens.capture.call import LayerInfo
from mixerlens.capture.recorder import Site

LOOKS_LIKE_A_MIXER = re.compile(
    r"Attention|Mixer|Recurren|Rglru|LSTM|GRU|DeltaNet|DeltaRule|Retention|ShortConv|LongConv|Hyena|TimeMix|SSM|Mamba|S4"
)
CONTAINER_OR_PART = re.compile(
    r"(Norm|NormGated|Model|Embedding|Embeddings|Output|MLP|Mlp|Layer|Cache|Rotary\w*|For[A-Z]\w+|LMHeadModel)$"
)
READS_N_GRAMS = re.compile(r"N-?Gram", re.IGNORECASE)
NO_MIXER_LAYER_TYPES = ("mlp", "moe", "-", "E")


@dataclass(frozen=True, eq=False)
class Findings:
    """sites: the mixers that can be recorded, by adapter; unread: path -> why, for those that cannot."""

    sites: list[tuple[Adapter, list[Site]]]
    unread: dict[str, str]

    @property
    def all(self) -> list[Site]:
        """Every site in the order of the model's modules."""
        return sorted((s for _, sites in self.sites for s in sites), key=lambda s: _natural(s.info.path))


def discover(model: nn.Module) -> Findings:
    """Look at every module once; nothing is run."""
    found: list[tuple[Adapter, list[Site]]] = [(adapter, []) for adapter in adapters()]
    taken: list[str] = []
    for path, module in model.named_modules():
        for adapter, sites in found:
            what = adapter.recognise(module)
            if what is not None:
                sites.append(Site(module, LayerInfo(_layer(path, len(taken)), path, *what)))
                taken.append(path)
                break
    filters = _filters(model, taken)
    found.append(filters)
    taken += [site.info.path for site in filters[1]]
    return Findings(found, _unread(model, taken))


def _filters(model: nn.Module, taken: list[str]) -> tuple[Adapter, list[Site]]:
    """Short filters in layers with mixers, but neither inside a mixer nor beside one within the same block: those are
    how its queries, keys and values are made."""
    adapter = filter_adapter()
    sites = []
    for path, module in model.named_modules():
        what = adapter.recognise(module)
        if what is not None and _mixes_alone(path, taken):
            sites.append(Site(module, LayerInfo(_layer(path, len(taken)), path, *what)))
    return adapter, sites


def _mixes_alone(path: str, taken: list[str]) -> bool:
    """The path lies in a layer stack that holds mixers, outside of them and of the blocks directly around them."""
    block, stack = path.rpartition(".")[0], _stack(path)
    inside = any(_inside(path, other) or _inside(other, block) for other in taken)
    return not inside and stack is not None and any(_inside(other, stack) for other in taken)


def _stack(path: str) -> str | None:
    """The path of the outermost numbered stack that a module lies in."""
    parts = path.split(".")
    return next((".".join(parts[:k]) for k, part in enumerate(parts) if part.isdigit()), None)


def _unread(model: nn.Module, taken: list[str]) -> dict[str, str]:
    """Modules that look like a token mixer and are none of the recognised ones; of nested ones, the outermost."""
    unread: dict[str, str] = {}
    prefix = type(getattr(model, "config", None)).__name__.removesuffix("Config")
    for path, module in model.named_modules():
        if any(_related(path, other) for other in (*taken, *unread)):
            continue
        name = type(module).__name__
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            why = "its state is not additive in what it reads, so it has no coefficients"
            unread[path or "the model itself"] = f"{name} ({why})"
        elif path and (isinstance(module, nn.MultiheadAttention) or _suspicious(name.removeprefix(prefix), module)):
            unread[path] = f"{name} (no adapter reads it)"
        elif READS_N_GRAMS.search(name) and next(module.parameters(), None) is not None:
            unread[path] = f"{name} (it looks up n-grams of token ids, which is linear in no value)"
        elif _is_convolution(module) and _mixes_alone(path, taken):
            unread[path] = f"{name} (it mixes neighbouring tokens, and no adapter reads it)"
    return unread | _uncovered_layers(model, [*taken, *unread])


def _is_convolution(module: nn.Module) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, kinds) and max(module.kernel_size) > 1


def _suspicious(name: str, module: nn.Module) -> bool:
    if not LOOKS_LIKE_A_MIXER.search(name) or CONTAINER_OR_PART.search(name):
        return False
    has_weights = any(True for _ in module.parameters())
    return has_weights and not any(isinstance(m, nn.ModuleList) for m in module.modules())


def _uncovered_layers(model: nn.Module, known: list[str]) -> dict[str, str]:
    """Layers in which nothing was recognised or even suspected, although the layers beside them mix tokens.

    Where the configuration names the layers' types, those that mix no tokens are left out; where it does not, only
    layers of a class that elsewhere holds a mixer are reported.
    """
    types = getattr(getattr(model, "config", None), "layer_types", None) or ()
    uncovered: dict[str, str] = {}
    for path, stack in model.named_modules():
        if not isinstance(stack, nn.ModuleList):
            continue
        covered = [any(_inside(p, f"{path}.{k}") for p in known) for k in range(len(stack))]
        classes = {type(layer) for layer, has in zip(stack, covered, strict=True) if has}
        declared = types if len(types) == len(stack) else (None,) * len(stack)
        for k, (layer, kind) in enumerate(zip(stack, declared, strict=True)):
            silent = kind in NO_MIXER_LAYER_TYPES if kind else type(layer) not in classes
            if classes and not covered[k] and not silent:
                name = f"{type(layer).__name__}, layer type {kind!r}" if kind else type(layer).__name__
                uncovered[f"{path}.{k}"] = f"{name} (no token mixer was recognised in it)"
    return uncovered


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.") or not outer


def _related(one: str, other: str) -> bool:
    return bool(one) and (_inside(one, other) or _inside(other, one))


def _layer(path: str, ordinal: int) -> int:
    """The layer's number: the first number in the path, else the mixer's place among the mixers."""
    return next((int(part) for part in path.split(".") if part.isdigit()), ordinal)


def _natural(path: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")]
