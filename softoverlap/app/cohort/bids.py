"""Pair files that are named after BIDS by subject, session and run."""

from __future__ import annotations

from softoverlap._checks import refusal
from softoverlap.app.cohort.hints import pattern_hint
from softoverlap.app.cohort.sides import Side, SideFile
from softoverlap.images import BIDS_MASKS, Unpaired, bids_entities


def pair_by_entities(preds: Side, truths: Side) -> None:
    """Call files by their entities where all have a subject and no name is on both sides.

    Raises:
        ValueError: If several files of a side would be of one case.
    """
    sides = (preds, truths)
    if any(side.fixed for side in sides) or set(preds.by_case(truths)) & set(truths.by_case(preds)):
        return
    if not all(bids_entities(file.name) for side in sides for file in side.files):
        return
    masks = [_masks(side.files) for side in sides]
    keys = [{bids_entities(file.name) for file in files} for files in masks]
    if not keys[0] & keys[1]:
        return
    for name, files in zip(("pred", "truth"), masks, strict=True):
        if two := _of_one_case(files):
            hint = pattern_hint(preds, truths, more_than=0) or f"choose with `{name}_pattern=`"
            complaint = "must have one file for each subject, session and run, got"
            raise refusal(name, f"{complaint} {two[0].path} and {two[1].path}; {hint}")
    for side, files in zip(sides, masks, strict=True):
        kept = {file.path for file in files}
        others = [file.path for file in side.files if file.path not in kept]
        side.passed_by += [Unpaired(path, "is no mask by its name in BIDS") for path in others]
        side.files = files
        for file in files:
            file.name = file.long_name = bids_entities(file.name) or file.name


def _masks(files: list[SideFile]) -> list[SideFile]:
    """Those that BIDS calls masks, if there are any: scans may lie beside them."""
    return [file for file in files if file.name.endswith(BIDS_MASKS)] or files


def _of_one_case(files: list[SideFile]) -> tuple[SideFile, SideFile] | None:
    """Two files of one case and one rater, if there are."""
    seen: dict[tuple[str | None, str | None], SideFile] = {}
    for file in files:
        other = seen.setdefault((bids_entities(file.name), file.rater), file)
        if other is not file:
            return other, file
    return None
