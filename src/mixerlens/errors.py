"""Errors a user can act on: each message is one line with the offending values and what to do."""

from __future__ import annotations


class MixerLensError(Exception):
    """Base of every error mixerlens raises on purpose; the CLI prints it as one line and exits with code 2."""


class InputError(MixerLensError, ValueError):
    """An argument has the wrong shape, dtype, range or content."""


class ModelError(MixerLensError):
    """A checkpoint cannot be read: missing, truncated, corrupt, or with weights that are not finite."""


class UnsupportedError(MixerLensError):
    """The model, mixer or request has no exact treatment here; the message names what is missing."""


class NonMemberError(UnsupportedError):
    """What was asked for is no instance of the equation. ``witness`` is the measured finding that shows it."""

    def __init__(self, message: str, witness: object = None) -> None:
        super().__init__(message)
        self.witness = witness


class MemoryBudgetError(MixerLensError, MemoryError):
    """A request would need more memory than the budget; the message gives both numbers in bytes."""
