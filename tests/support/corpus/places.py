"""What stands in a folder instead of a file: links, folders, pipes, nothing; and odd names."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.support.corpus.boxes_json import FORMATS
from tests.support.corpus.dicom import dicom_files
from tests.support.corpus.nifti import nifti_bytes
from tests.support.corpus.record import Content, Damaged, Folder, Link, Pipe, damaged

NAMES = (
    "=1+1", "+1", "-1", "@SUM(1)", "\t1", "\r1", "a\nb", "a b", " a", "a,b", 'a"b', "a'b", "a;b",
    "ä", "a\u0308", "病变", "\u202eevil", "%s%n", "{case}", "[a]", "$(touch x)", "a&b", "<b>a", "*",
    "a..b", "NUL", "x" * 200, "\udcff", "\x1b[31m", "\\a", "~", "#a", "a_rater1", "a_boxes",
)  # fmt: skip
"""Names of cases that a shell, a spreadsheet, a page or a pattern may read otherwise."""


def image_places(seed: int) -> Iterator[Damaged]:
    """Places with the suffix of an image, and slices without a series."""
    for suffix in (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img", ".mgz"):
        yield from _odd(suffix)
    for name in NAMES:
        yield Damaged(f"{name}.nii", {f"{name}.nii": nifti_bytes()})
    yield from dicom_files()


def box_places(seed: int) -> Iterator[Damaged]:
    """Places with the suffix of a file of boxes."""
    yield from _odd(".json")
    content = json.dumps(FORMATS["json"][0]()).encode()
    for name in NAMES:
        yield Damaged(f"{name}.json", {f"{name}.json": content})


def _odd(suffix: str) -> Iterator[Damaged]:
    kind = suffix.replace(".", "")
    contents: dict[str, Content] = {
        "empty": b"",
        "a folder": Folder(),
        "a pipe": Pipe(),
        "a link to nowhere": Link("nowhere/at/all"),
        "a link to a folder": Link("."),
        "a link to a device": Link("/dev/zero"),
        "a link to nothing": Link("/dev/null"),
    }
    for what, content in contents.items():
        yield damaged(f"{kind} {what}", suffix, content)
    own = f"{kind}-a-link-to-itself{suffix}"
    yield Damaged(own, {own: Link(own)})
    one, two = (f"{kind}-a-ring-{number}{suffix}" for number in (1, 2))
    yield Damaged(one, {one: Link(two), two: Link(one)})
