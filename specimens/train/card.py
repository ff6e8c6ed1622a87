"""The model cards: prose around measured numbers, every number from the facts."""

from __future__ import annotations

from typing import Any

LANGUAGE = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A small byte-level language model of the King James Bible, trained to be looked into: {kind}.
It is a specimen, not a useful language model.

| | |
|---|---|
| parameters | {parameters:,} (float32, embeddings tied) |
| layers | {layers} |
| vocabulary | 259: ByT5's ids, that is three special ones and the 256 bytes; the tokenizer appends the end-of-text id |
| context | 4,096 positions, the last 3 % of the training steps at that length |

## Measured

Bits per byte, lower is better, on {held_out:,} held-out bytes (13 blocks spread over the whole book; never trained on):

| | bits per byte |
|---|---|
| **this model** (each byte from the 512 to 1,024 before it) | **{bits:.3f}** |
{baselines}

gzip and xz read the held-out bytes alone, but for the last row: there xz has read the training text first and only the
held-out bytes' share is counted.

By position in a window of 4,096 bytes: {bands}.
On `specimens/text/held-out.txt` ({excerpt_bytes:,} bytes of the Psalms, held out too): {excerpt:.3f}.

## Training

{tokens:,} tokens in {steps:,} steps of AdamW (peak rate {rate:g}, cosine, weight decay {decay:g} on projections only),
seed {seed}, one CPU thread, {cpu_minutes:.0f} minutes of CPU time ({minutes:.0f} minutes on a machine shared with other
work). The text is what Debian's `bible-kjv` prints, {size:,} bytes, sha256
`{sha256}`; the translation's copyright has expired.
{versions}.

    apt-get install bible-kjv && bible -f gen1:1-rev22:21 > kjv.txt
    python specimens/train/train.py {name} --text kjv.txt --steps {steps}
{scan}"""

KINDS = {
    "jamba-bytes": "`JambaForCausalLM` with three Mamba-1 layers and one of softmax attention, dense MLPs",
    "qwen3-next-bytes": "`Qwen3NextForCausalLM` with three gated DeltaNet layers and one of softmax attention, dense "
    "MLPs",
}
SCANS = {
    "jamba-bytes": "\nIts Mamba layers trained through mixerlens' selective scan: same map, usable backward pass.\n",
    "qwen3-next-bytes": "",
}
LAYERS = {
    "jamba-bytes": "Mamba-1 (256 channels, state 16), Mamba-1, attention (4 heads, 2 key/value heads, no positions), "
    "Mamba-1; width 128",
    "qwen3-next-bytes": "gated DeltaNet (4 heads of 32), gated DeltaNet, attention (4 heads, 2 key/value heads, RoPE "
    "on a quarter), gated DeltaNet; width 128",
}


def language_model(facts: dict[str, Any]) -> str:
    name, training, text = facts["name"], facts["training"], facts["text"]
    return LANGUAGE.format(
        name=name,
        kind=KINDS[name],
        layers=LAYERS[name],
        scan=SCANS[name],
        parameters=facts["parameters"],
        held_out=text["held_out_bytes"],
        bits=facts["bits_per_byte"],
        baselines="\n".join(f"| {tool} | {bits:.3f} |" for tool, bits in facts["baselines"].items()),
        bands=", ".join(f"{band} {bits:.3f}" for band, bits in facts["bits_per_byte_by_position"].items()),
        excerpt=facts["excerpt"]["bits_per_byte"],
        excerpt_bytes=facts["excerpt"]["bytes"],
        tokens=training["tokens"],
        steps=training["steps"],
        rate=training["peak_rate"],
        decay=training["weight_decay"],
        seed=training["seed"],
        minutes=training["seconds"] / 60,
        cpu_minutes=training["cpu_seconds"] / 60,
        size=text["bytes"],
        sha256=text["sha256"],
        versions=_versions(facts),
    )


CLASSIFIER = """\
---
license: apache-2.0
library_name: mixerlens
---
# {name}

An S4D classifier of handwritten digits read as sequences of 64 pixels, trained to be looked into. Open it with
`mixerlens.open` or `mixerlens.models.s4d.load_s4d`.

| | |
|---|---|
| parameters | {parameters:,} (float32) |
| encoder, head | linear 1 -> 64; mean over time, linear 64 -> 10 |
| two blocks | S4D (64 features, 32 complex modes, zero-order hold, B = 1), GELU, output map, residual |
| output map, norm | {output}, {norm} |

## Measured

Test accuracy {right} of {total}: **{accuracy:.1%}**, 95 % interval {low:.1%} to {high:.1%} (Wilson). The test part was
used once, after the choice below. The split is random (seed 0), so a writer may be in several parts: accuracy on unseen
writers may be lower.

Chosen by the validation part ({validation_total} digits) among four variants, same seed and recipe; a tie goes to the
first:

| output map | norm | validation accuracy | training seconds |
|---|---|---|---|
{variants}

A difference of a few digits between them is within the error of so small a validation part.

## Data and training

scikit-learn's `load_digits` (UCI "Optical Recognition of Handwritten Digits", 1,797 images of 8 x 8), read row by row,
divided by 16: 1,257 train, 180 validation, 360 test. {epochs} epochs of AdamW, batch {batch}, peak rate {peak_rate:g}
({system_rate:g} for A and dt), cosine, label smoothing {label_smoothing:g}, seed {seed}, one CPU thread. {versions}.

`examples.npy` (32, 64, 1) float32 and `labels.npy` are the first 32 of the test part.

    python specimens/train/train.py {name}
"""


def classifier(facts: dict[str, Any]) -> str:
    test, variants = facts["test"], facts["variants"]
    total = facts["validation_total"]
    rows = [
        f"| {run['output']} | {run['norm']} | {run['validation_correct']} of {total}"
        f"{' (chosen)' if i == facts['chosen'] else ''} | {run['seconds']:.0f} |"
        for i, run in enumerate(variants)
    ]
    chosen = variants[facts["chosen"]]
    return CLASSIFIER.format(
        name=facts["name"],
        parameters=facts["parameters"],
        output=chosen["output"],
        norm=chosen["norm"],
        right=test["correct"],
        total=test["total"],
        accuracy=test["accuracy"],
        low=test["interval"][0],
        high=test["interval"][1],
        validation_total=total,
        variants="\n".join(rows),
        versions=_versions(facts),
        **facts["training"],
    )


def _versions(facts: dict[str, Any]) -> str:
    return ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
