"""Commands on images, and small files for them."""

from __future__ import annotations

import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.images import save_nifti
from tests.support.image_makers import affine

STRAIGHT = affine((1.0, 2.0, 3.0), (5.0, 6.0, 7.0))


def run(*arguments, status=0):
    """Run the command in this process; what it printed, output and errors together."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def saved(path, data, matrix=STRAIGHT):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_nifti(path, data, matrix)
    return path


def blob(*low, size=3, shape=(12, 10, 8), value=1.0):
    mask = torch.zeros(shape)
    mask[tuple(slice(start, start + size) for start in low)] = value
    return mask
