"""Densities on the cells of a grid: what two of them share, and where most of one lies."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._autograd import widened
from softoverlap._checks import check_number, check_tensors, refusal, should_validate
from softoverlap._types import plain


def cells(densities: Shaped[Tensor, "densities rows columns"]) -> Float[Tensor, "densities cells"]:
    """The cells of each in a row, float64; their gradient is what their own type can hold."""
    return widened(densities).flatten(1)


def mass(densities: Float[Tensor, "densities cells"]) -> Float[Tensor, "densities"]:
    """Sum of all cells."""
    return densities.sum(dim=1)


def shared_mass(
    a: Float[Tensor, "densities cells"], b: Float[Tensor, "densities cells"]
) -> Float[Tensor, "densities"]:
    """Σ min(a, b): equal densities share the gradient, but at 0, where both can only rise."""
    nothing = (a == 0) & (b == 0)
    return torch.where(nothing, a * b, torch.minimum(a, b)).sum(dim=1)


def check_densities(*, validate: bool | None = None, **densities: Tensor) -> None:
    """Every value is finite and at least 0."""
    check_tensors(**densities)
    for name, density in densities.items():
        if density.dtype == torch.bool or not should_validate(validate, density):
            continue
        values = plain(density.detach())
        wrong = ~(values.isfinite() & (values >= 0))
        if wrong.any():
            got = values[wrong][0].item()
            raise refusal(name, f"must hold finite densities of at least 0, got {got:g}")


def highest_density_region(
    density: Shaped[Tensor, "*cells"], mass: float | int, *, validate: bool | None = None
) -> Bool[Tensor, "*cells"]:
    """The smallest region that holds a share of the mass: where the density is highest.

    Cells of equal size are taken by falling density until they hold the share; those as dense as
    the last one belong to it too, so it does not depend on their order.

    Args:
        density: Mass or density of each cell, at least 0, shape (*cells).
        mass: Share of the mass that the region holds at least, such as 0.98, in (0, 1].
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Whether a cell is in the region, shape (*cells): of no cell where there is no mass.

    Raises:
        TypeError: If `density` is no tensor of real numbers, or `mass` no number.
        ValueError: If a density is negative, infinite or NaN, or `mass` lies outside (0, 1].

    References:
        Hyndman, Computing and Graphing Highest Density Regions, The American Statistician 1996

    Examples:
        >>> import torch
        >>> highest_density_region(torch.tensor([0.1, 0.4, 0.3, 0.2]), 0.7)
        tensor([False,  True,  True, False])
    """
    check_densities(density=density, validate=validate)
    check_number(mass=mass)
    if not 0 < mass <= 1:
        raise refusal("mass", f"must lie in (0, 1], got {mass!r}")
    values = plain(density.detach()).double()
    falling = values.flatten().sort(descending=True).values
    if not len(falling):
        return torch.zeros_like(values, dtype=torch.bool)
    held_so_far = falling.cumsum(0)
    enough = held_so_far >= held_so_far[-1] * mass * (1 - 1e-12)  # 0.7 is 0.4 + 0.3
    return (values >= falling[enough.int().argmax()]) & (values > 0)
