"""What families ask of their arguments."""

from __future__ import annotations

from torch import Tensor

from mixerlens.errors import InputError


def tensors(**given: object) -> None:
    """Raise InputError for an argument that is no tensor, by name."""
    for name, x in given.items():
        if not isinstance(x, Tensor):
            raise InputError(f"{name} is a {type(x).__name__}: give a torch.Tensor (torch.as_tensor converts arrays)")


def forgets(name: str, x: Tensor, hint: str) -> None:
    """Raise InputError where a quantity that must not be positive is: exp of it would make the state grow."""
    x = x.real if x.is_complex() else x
    if x.numel() and (most := float(x.detach().amax())) > 0:  # not for NaN, of which more is said elsewhere
        raise InputError(f"{name} must not be positive, its largest value is {most:.3g}: {hint}")


def positive(name: str, x: Tensor) -> None:
    """Raise InputError for a negative step size."""
    if x.numel() and (least := float(x.detach().amin())) < 0:
        raise InputError(
            f"{name} must not be negative, its smallest value is {least:.3g}: pass it after softplus and clamp"
        )
