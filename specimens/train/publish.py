"""Measures a trained specimen and writes its folder: weights, configuration, facts.json and the card made of them."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card
import numpy as np


def versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    share, scale = correct / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    return float(centre - half), float(centre + half)


def write_folder(output: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside the output and puts it in the output's place when it is complete."""
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    for path in partial.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read
    if output.exists():
        old = output.with_name(f".{output.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(output, old)
        os.replace(partial, output)
        shutil.rmtree(old)
    else:
        os.replace(partial, output)


def write_facts(folder: Path, facts: dict[str, Any], text: str) -> None:
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text, encoding="utf-8")


def language_model(name: str, model, corpus, recipe, history: dict[str, Any], output: Path) -> None:
    """Measures bits per byte on the held-out text and writes the folder, and the held-out excerpt beside it."""
    import bits
    from architectures import byte_tokenizer
    from corpus import baselines, excerpt
    from loop import STAGES

    text = excerpt(corpus)
    curve = [round(float(np.mean(history["bits"][i : i + 100])), 3) for i in range(0, len(history["bits"]), 100)]
    facts = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "text": {
            "sha256": corpus.sha256,
            "bytes": corpus.size,
            "training_bytes": sum(map(len, corpus.train)),
            "held_out_bytes": sum(map(len, corpus.held_out)),
        },
        "bits_per_byte": bits.held_out(model, corpus.held_out),
        "bits_per_byte_by_position": bits.by_position(model, corpus.held_out),
        "excerpt": {"bytes": len(text), "bits_per_byte": bits.of_text(model, text)},
        "baselines": baselines(corpus),
        "training": {
            **vars(recipe),
            "stages": [list(stage) for stage in STAGES],
            "tokens": recipe.tokens(recipe.steps),
            "seconds": round(history["seconds"]),
            "cpu_seconds": round(history["cpu_seconds"]),
            "bits_per_byte_every_100_steps": curve,
        },
        "versions": versions("torch", "transformers"),
    }

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        write_facts(folder, facts, card.language_model(facts))

    write_folder(output, fill)
    target = output.parent / "text"
    target.mkdir(exist_ok=True)
    (target / "held-out.txt").write_bytes(text)
    print(f"{output}: {facts['bits_per_byte']:.3f} bits/byte on {facts['text']['held_out_bytes']:,} held-out bytes")


def classifier(model, runs, best: int, right: int, validation_size: int, test, recipe, output: Path) -> None:
    """Writes the chosen classifier with 32 test sequences (examples.npy) and their labels (labels.npy)."""
    total = len(test.labels)
    facts = {
        "name": output.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "test": {"correct": right, "total": total, "accuracy": right / total, "interval": interval(right, total)},
        "validation_total": validation_size,
        "variants": runs,
        "chosen": best,
        "training": recipe,
        "versions": versions("torch", "scikit-learn"),
    }

    def fill(folder: Path) -> None:
        model.save(folder)
        np.save(folder / "examples.npy", test.inputs[:32].numpy())
        np.save(folder / "labels.npy", test.labels[:32].numpy())
        write_facts(folder, facts, card.classifier(facts))

    write_folder(output, fill)
    print(f"{output}: {right} of {total} test digits right")
