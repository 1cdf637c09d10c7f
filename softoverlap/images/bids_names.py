"""What the name of a file in BIDS says: subject, session and run, and what kind of image it is."""

from __future__ import annotations

import re

BIDS_MASKS = ("_mask", "_dseg", "_probseg")
"""How BIDS ends the names of masks: 0 and 1, labels, and probabilities."""

_ENTITY = re.compile(r"(?:^|_)(sub|ses|run)-([A-Za-z0-9]+)(?=_|$)")
_SUBJECT = re.compile(r"(?:^|[/_])(sub-[^/_.]+)")
_OF_CASE = ("sub-", "ses-", "run-")


def bids_subject(case: str) -> str | None:
    """The subject in the name of a case: the one rule of what a patient is in BIDS.

    Args:
        case: Name of the case, which may be a path.

    Returns:
        The part that begins with `sub-`, or None.

    Examples:
        >>> bids_subject("site2_sub-01_ses-2"), bids_subject("derivatives/sub-01/anat/lesions")
        ('sub-01', 'sub-01')
        >>> bids_subject("scan 7") is None
        True
    """
    subject = _SUBJECT.search(case)
    return subject[1] if subject else None


def bids_entities(name: str) -> str | None:
    """Subject, session and run in the name of a file.

    Args:
        name: The name without suffix.

    Returns:
        These entities as the name of a case, or None without a subject.

    Examples:
        >>> bids_entities("sub-01_ses-pre_run-02_desc-lesion_mask"), bids_entities("scan_01")
        ('sub-01_ses-pre_run-2', None)
    """
    found = dict(_ENTITY.findall(name))
    if "sub" not in found:
        return None
    if found.get("run", "").isdigit():
        found["run"] = str(int(found["run"]))
    return "_".join(f"{key}-{found[key]}" for key in ("sub", "ses", "run") if key in found)


def bids_kind(name: str) -> str:
    """What is left of a name without subject, session and run.

    Args:
        name: The name without suffix.

    Returns:
        The kind of image, such as T1w.

    Examples:
        >>> bids_kind("sub-01_ses-pre_ce-gad_T1w")
        'ce-gad_T1w'
    """
    return "_".join(part for part in name.split("_") if not part.startswith(_OF_CASE))
