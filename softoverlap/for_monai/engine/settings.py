"""What a network was trained with, kept in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RunSettings:
    """Settings that a checkpoint keeps, and that whoever loads it must have too.

    With other anchors, another spacing or other axes the weights would load and give wrong boxes.
    Saved with them (`save_dict={"settings": settings, "network": network}`) and loaded before
    them, the settings make that an error.

    Args:
        settings: Numbers, texts, None, and lists of these, by name.

    Examples:
        >>> settings = RunSettings(spacing=[1.0, 1.0, 2.0], axes="RAS")
        >>> settings.load_state_dict({"spacing": [1, 1, 2], "axes": "RAS"})
        >>> settings.load_state_dict({"spacing": None, "axes": "RAS"})
        Traceback (most recent call last):
        ValueError: spacing must be None, as in the training of the checkpoint, got [1.0, 1.0, 2.0]
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {name: _plain(value) for name, value in settings.items()}

    def state_dict(self) -> dict[str, Any]:
        """The settings, as a checkpoint keeps them."""
        return dict(self.settings)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with the settings of a checkpoint; nothing is taken over.

        Args:
            state: What `state_dict` gave in the training.

        Raises:
            ValueError: If a setting differs; the message names all that do.
        """
        told = [
            f"{name} must be {_plain(state.get(name))!r}, as in the training of the checkpoint, "
            f"got {value!r}"
            for name, value in self.settings.items()
            if value != _plain(state.get(name))
        ]
        if told:
            raise ValueError("; ".join(told))


def _plain(value: Any) -> Any:
    """Lists in place of tuples, all the way down."""
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
