"""A designed model in a folder: config.json holds its specifications, model.safetensors its weights.

`mixerlens.open(folder)` reads it, and so everything that works on a trained model works on a designed one.
"""

from __future__ import annotations

import os

import torch

from mixerlens.design.model import MODEL_TYPE, ModelConfig, SequenceModel
from mixerlens.models import folder as folders

__all__ = ["load", "save"]


def save(model: SequenceModel, folder: str | os.PathLike[str]) -> None:
    """Writes config.json (model_type "mixerlens_designed") and model.safetensors, each whole or not at all.

    Raises InputError where the folder cannot be written.
    """
    folders.save(model, folder, MODEL_TYPE, model.config.to_dict())


def load(folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> SequenceModel:
    """Opens a folder that ``save`` wrote, in eval mode, in the dtype asked for or the weights' own.

    Raises ModelError, in one line, if a file is missing or unreadable, the configuration is not this model's, or a
    weight is missing, unexpected, of another shape or dtype, or not finite.
    """
    return folders.load(folder, MODEL_TYPE, ModelConfig.from_dict, SequenceModel, dtype)
