"""All layouts by name, and how that of a folder is recognised."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from softoverlap._checks import check_choice, refusal
from softoverlap.images.formats.world import FRAMES
from softoverlap.images.layouts import bids, box_list, decathlon, nnunet, ours
from softoverlap.images.layouts.dataset_json import DESCRIPTION, is_paired_list
from softoverlap.images.layouts.names import read_patients
from softoverlap.images.layouts.record import CaseTable, Findings
from softoverlap.images.sources import Unpaired
from softoverlap.images.texts import read_json

_SHOWN = 8
_PATIENTS = "patients.csv"


@dataclass(frozen=True)
class Layout:
    """One layout: its name for people, and what shows it."""

    title: str
    signs: str


LAYOUTS = {
    "ours": Layout("softoverlap's own", "images/ with masks/ or raters/"),
    "nnunet": Layout("nnU-Net", f"imagesTr/CASE_0000.nii.gz, labelsTr/ and {DESCRIPTION}"),
    "decathlon": Layout("Medical Segmentation Decathlon", f"imagesTr/, listed in {DESCRIPTION}"),
    "bids": Layout("BIDS", "sub-*/anat/ and derivatives/"),
    "list": Layout("MONAI's detection list", "a .json file with training, image and box"),
}
"""All layouts by name."""


def find_cases(
    folder: str | os.PathLike[str],
    *,
    layout: str | None = None,
    images: str | os.PathLike[str] | None = None,
    frame: str | None = None,
) -> CaseTable:
    """Find the cases of a training data set, without opening a scan.

    Layouts are softoverlap's own, nnU-Net, the Medical Segmentation Decathlon, BIDS, and MONAI's
    detection lists; the page "Training data" shows each as a tree. A table `patients.csv` with the
    columns case and patient, in the folder or beside the list, names the patients.

    Args:
        folder: The folder of the data set; of a list of boxes its folder, or the list itself.
        layout: One of `LAYOUTS`; by default recognised from the names of files and folders.
        images: The folder below which a list of boxes names its scans; by default its own.
        frame: `"RAS"` or `"LPS"`, for a list of boxes that does not say it.

    Returns:
        The cases, all files that could not be paired, with the reason, and what the data set says
        about channels and classes.

    Raises:
        FileNotFoundError: If the folder or a file that the layout needs does not exist, or no
            layout fits.
        ValueError: If two layouts fit, a description, list or table is broken, or there is no scan.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 2, seed=0)
        >>> table = find_cases(folder)
        >>> table.layout, [case.name for case in table.cases]
        ('ours', ['phantom-0000', 'phantom-0001'])
    """
    place = Path(folder)
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    if frame is not None:
        check_choice("frame", frame, FRAMES)
    if not (place.is_dir() or (place.is_file() and place.suffix.lower() == ".json")):
        raise FileNotFoundError(f"{place} must be a folder with scans, found no such folder")
    layout = layout or layout_of(place)
    if layout == "list":
        found = box_list.find(place, None if images is None else Path(images), frame)
    else:
        for name, given in (("images", images), ("frame", frame)):
            if given is not None:
                raise refusal(name, f"goes with a list of boxes, got {LAYOUTS[layout].title}")
        found = _FINDERS[layout](place)
    return _table(found, layout, place)


def layout_of(place: Path) -> str:
    """The layout of a data set.

    Raises:
        FileNotFoundError: If none fits.
        ValueError: If two fit.
    """
    if place.is_file():
        return "list"
    fits = [name for name, test in _TESTS.items() if test(place)]
    if len(fits) > 1:
        words = " and ".join(f"{LAYOUTS[name].title} ({LAYOUTS[name].signs})" for name in fits)
        raise ValueError(f"{place} fits more than one layout, {words}: choose with `layout=`")
    if fits:
        return fits[0]
    if box_list.lists_in(place):
        return "list"
    if (place / "images").is_dir():  # of which masks and raters are missing
        return "ours"
    known = "; ".join(f"{layout.title}: {layout.signs}" for layout in LAYOUTS.values())
    raise FileNotFoundError(
        f"{place} must be a data set in one of these layouts ({known}), found {_content_of(place)}"
    )


def _is_ours(folder: Path) -> bool:
    return (folder / "images").is_dir() and any(
        (folder / room).is_dir() for room in ("masks", "raters")
    )


def _is_decathlon(folder: Path) -> bool:
    """A list of pairs of files that are there: nnU-Net 1 lists scans without their channels."""
    path = folder / DESCRIPTION
    elsewhere = _is_ours(folder) and not (folder / "imagesTr").is_dir()
    if elsewhere or not path.is_file():
        return False
    content = read_json(path)
    if not is_paired_list(content) or "channel_names" in content:
        return False
    first = content["training"][0]["image"]
    there = isinstance(first, str) and (folder / first).is_file()
    return there or not nnunet.has_channels(folder / "imagesTr")


def _is_nnunet(folder: Path) -> bool:
    described = (folder / DESCRIPTION).is_file()
    listed = described and not (folder / "imagesTr").is_dir() and _lists_files(folder)
    return listed or ((folder / "imagesTr").is_dir() and not _is_decathlon(folder))


def _lists_files(folder: Path) -> bool:
    """Whether nnU-Net 2's description lists the files itself."""
    content = read_json(folder / DESCRIPTION)
    return isinstance(content, dict) and {"dataset", "channel_names"} <= set(content)


_TESTS: dict[str, Callable[[Path], bool]] = {
    "ours": _is_ours,
    "nnunet": _is_nnunet,
    "decathlon": _is_decathlon,
    "bids": bids.has_subjects,
}
_FINDERS: dict[str, Callable[[Path], Findings]] = {
    "ours": ours.find,
    "nnunet": nnunet.find,
    "decathlon": decathlon.find,
    "bids": bids.find,
}


def _content_of(folder: Path) -> str:
    """What a folder holds, in words."""
    entries = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(entries[:_SHOWN]) + more if entries else "an empty folder"


def _table(found: Findings, layout: str, place: Path) -> CaseTable:
    """The cases with the patients that a table names, in order."""
    path = (place if place.is_dir() else place.parent) / _PATIENTS
    patients = read_patients(path)
    cases = [replace(case, patient=patients.get(case.name) or case.patient) for case in found.cases]
    unknown = [name for name in patients if name not in found.names]
    left = found.unpaired + [Unpaired(path, f"no image of case {name}") for name in unknown]
    return CaseTable(
        tuple(sorted(cases, key=lambda case: case.name)),
        tuple(sorted(left, key=lambda file: file.path)),
        layout,
        found.channels,
        found.classes,
        found.fold,
        tuple(found.notes),
        tuple(found.incomplete),
    )
