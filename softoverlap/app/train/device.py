"""Where to compute."""

from __future__ import annotations

import torch

from softoverlap._checks import refusal


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of this name, if it exists.

    Args:
        device: `"auto"` for the GPU if there is one, otherwise the CPU; or `"cpu"`, `"cuda"`,
            `"cuda:1"`, `"mps"`.

    Returns:
        The device.

    Raises:
        ValueError: If the name is wrong or the device does not exist.

    Examples:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        complaint = f"must be auto, cpu, or a GPU of this machine, got {device}: {reason}"
        raise refusal("device", complaint) from None
    return chosen
