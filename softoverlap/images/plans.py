"""Files that hold a plan of anchors."""

from __future__ import annotations

import os

from softoverlap.anchors import AnchorPlan
from softoverlap.images.texts import read_json


def read_plan(path: str | os.PathLike[str]) -> AnchorPlan:
    """The plan that `softoverlap plan` wrote, or somebody edited: every field is checked.

    `AnchorPlan.to_json` is what such a file holds.

    Args:
        path: A JSON file.

    Returns:
        The plan.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, or a field is missing, unknown, of a wrong type or out of
            range. The message names the file and the field.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "plan.json"
        >>> _ = path.write_text('{"strides": [[2, 2]], "sizes": [[[3, 4]]]}')
        >>> read_plan(path).sizes
        (((3.0, 4.0),),)
    """
    values = read_json(path)
    try:
        return AnchorPlan.from_dict(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} must hold a plan of anchors: {error}") from error
