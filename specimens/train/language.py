"""Trains a byte-level language model and writes its folder."""

from __future__ import annotations

from pathlib import Path

import corpus as texts
from architectures import LANGUAGE_MODELS
from loop import Recipe, train


def run(name: str, text: Path, recipe: Recipe, work: Path, output: Path) -> None:
    """Trains (or resumes, or does nothing if done), measures, and writes the folder whole or not at all."""
    corpus = texts.read(text)
    model = LANGUAGE_MODELS[name](recipe.seed)
    scan = None
    if name == "jamba-bytes":
        from scan import library_scan

        scan = library_scan()
    history = train(model, corpus.stream(), recipe, work, scan)
    import publish  # late: a long run should not depend on what only its end needs

    publish.language_model(name, model, corpus, recipe, history, output)
