"""Names of labels in BIDS: a table `_dseg.tsv` with the columns `index` and `name`."""

from __future__ import annotations

from pathlib import Path

from softoverlap.images.images import image_name
from softoverlap.images.texts import number_in, read_text


def read_label_names(mask: Path, root: Path) -> dict[str, tuple[int, ...]] | None:
    """The number of each class, from the table of a label map or one in a folder above.

    Args:
        mask: The label map.
        root: The folder of the data set, where the search ends.

    Returns:
        Numbers by class without the background, or None without a table.

    Raises:
        ValueError: If the table has not these columns, or no class.
    """
    own = mask.with_name(f"{image_name(mask)}.tsv")
    above = [folder for folder in mask.parents if folder == root or root in folder.parents]
    shared = [path for folder in above for path in sorted(folder.glob("*dseg.tsv"))]
    for path in (own, *(path for path in shared if not path.name.startswith("sub-"))):
        if path.is_file():
            return _read(path)
    return None


def _read(path: Path) -> dict[str, tuple[int, ...]]:
    lines = [line.split("\t") for line in read_text(path, "TSV").splitlines() if line.strip()]
    header = lines[0] if lines else []
    if not {"index", "name"} <= set(header):
        raise ValueError(f"{path} must have the columns index and name, got {', '.join(header)}")
    names: dict[str, tuple[int, ...]] = {}
    for line in lines[1:]:
        row = dict(zip(header, line, strict=False))
        try:
            number = int(number_in(row.get("index", ""), whole=True))
        except ValueError as error:
            raise ValueError(f"{path} must have whole numbers as index, got {error}") from error
        if number > 0:
            name = row.get("name") or f"class {number}"
            names[name] = (*names.get(name, ()), number)
    if not names:
        raise ValueError(f"{path} must name a label besides the background, got none")
    return names
