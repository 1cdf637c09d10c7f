"""Detection on files: find the scans, and write results without replacing other files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.app.train.checkpoint import LesionDetector
from softoverlap.app.train.inference import Detections, detect
from softoverlap.app.train.scans import warn_of_axes
from softoverlap.images import (
    IMAGE_SUFFIXES,
    Volume,
    axis_codes,
    axis_names,
    check_names,
    check_written,
    find_files,
    image_name,
    load_one_volume,
    read_table,
    save_nifti,
    write_box_files,
    write_markups,
    write_table,
)


@dataclass(frozen=True, eq=False)
class FileResult:
    """The result for one file.

    Args:
        path: The scan.
        detections: What was found in it, or None if it failed.
        error: Why it failed, or None.
        axes: Where the scan's voxel axes point, or None if it failed.
        note: What a user should know about the scan, or None.

    Examples:
        >>> FileResult(Path("scan.nii.gz"), None, "it is truncated").ok
        False
    """

    path: Path
    detections: Detections | None
    error: str | None = None
    axes: str | None = None
    note: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the scan could be read and its results written."""
        return self.error is None


def find_scans(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Images that are named, in a folder, or match a pattern.

    Args:
        sources: Files, folders (their own files, those of `images/` in a training folder, or one
            DICOM series) and patterns such as `"scans/*_flair.nii.gz"`. A named file need not
            exist: it fails later, without stopping the others.

    Returns:
        Files in the order of the sources, those of one source by name; each once.

    Raises:
        FileNotFoundError: If a folder or a pattern has no image.
        ValueError: If two files have the same name, so that their results would collide.

    Examples:
        >>> find_scans(["a.nii.gz", "b.mha", "a.nii.gz"])
        [PosixPath('a.nii.gz'), PosixPath('b.mha')]
    """
    whole = [path / "images" if (path / "images").is_dir() else path for path in map(Path, sources)]
    scans = find_files(whole, IMAGE_SUFFIXES, "images")
    check_names(scans, image_name, "images")
    return scans


def detect_files(
    model: LesionDetector,
    scans: Sequence[Path],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[FileResult], None] | None = None,
) -> list[FileResult]:
    """Find lesions in files, and write boxes, markups and heat maps on their own grids.

    Markups hold the boxes at or above the detector's score threshold, all if it has none; files of
    boxes and tables hold the candidates below it too, and the threshold.

    A file that cannot be read, or whose results cannot be written, gets an error; the others
    continue. A scan whose voxels are all equal gets a note and no boxes. `detections.csv` has a row
    for every box, `scans.csv` one for every file; Ctrl-C writes them for the files that are done.

    Args:
        model: A trained detector.
        scans: The files, as of `find_scans`.
        output: Folder for the results; created if it does not exist.
        overwrite: Replace existing results, and remove those that an earlier `scans.csv` lists.
            Scans are never replaced.
        progress: Called after every file; it may raise `KeyboardInterrupt` to stop there.

    Returns:
        The result for each file.

    Raises:
        FileExistsError: If a result exists already, or would replace a scan.
        KeyboardInterrupt: On Ctrl-C, with the number of scans that are done.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> from softoverlap.app.train import Intensity, TrainingConfig, build_detector
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_nifti(folder / "scan.nii.gz", torch.rand(16, 16, 16), torch.eye(4))
        >>> config = TrainingConfig(patch_size=16)
        >>> model = build_detector(config, (1.0, 1.0, 1.0), Intensity("scan"))
        >>> [result.ok for result in detect_files(model, find_scans([folder]), folder / "found")]
        [True]
    """
    output = Path(output)
    check_written(_results(scans, output), scans, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    _remove_earlier(scans, output)
    results: list[FileResult] = []
    try:
        for path in scans:
            results.append(_detect_file(model, path, output))
            if progress is not None:
                progress(results[-1])
    except KeyboardInterrupt:
        _write_tables(output, results)
        done = f"{len(results)} of {len(scans)} scans are done, with results in {output}"
        raise KeyboardInterrupt(done) from None
    _write_tables(output, results)
    _compare_axes(model, results)
    return results


def _compare_axes(model: LesionDetector, results: Sequence[FileResult]) -> None:
    """Warn once about scans with another axis order than those of the training."""
    others = [result.path.name for result in results if result.axes not in (None, model.axes)]
    if model.axes is not None and others:
        warn_of_axes(others, model.axes, "the training's scans")


def _detect_file(model: LesionDetector, path: Path, output: Path) -> FileResult:
    try:
        image = load_one_volume(path)
        constant = bool((image.data == image.data.flatten()[0]).all())
        detections = _nothing(model, image) if constant else detect(model, image)
        write_detections(output, image_name(path), detections, image.affine)
    except (ValueError, OSError) as error:
        return FileResult(path, None, str(error))
    note = f"all voxels are {float(image.data.flatten()[0]):g}: no boxes" if constant else None
    return FileResult(path, detections, axes=axis_codes(image.affine), note=note)


def _nothing(model: LesionDetector, image: Volume) -> Detections:
    """No boxes, and an empty heat map."""
    none = torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    return Detections(
        *none,
        heat_map=torch.zeros(image.data.shape),
        score_threshold=model.score_threshold,
        threshold_rule=model.threshold_rule,
    )


def result_files(output: Path, name: str) -> tuple[Path, Path, Path]:
    """Boxes, markups and heat map of a scan."""
    endings = ("_boxes.json", "_boxes.mrk.json", "_heatmap.nii.gz")
    boxes, markups, heat_map = (output / f"{name}{ending}" for ending in endings)
    return boxes, markups, heat_map


def write_detections(
    output: Path, name: str, detections: Detections, affine: Float64[Tensor, "4 4"]
) -> None:
    """Write the boxes as JSON, the findings as 3D Slicer markups, and the heat map as NIfTI.

    Args:
        output: An existing folder.
        name: Name of the scan.
        detections: What was found in it.
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).

    Examples:
        >>> import tempfile
        >>> import torch
        >>> detections = Detections(
        ...     torch.zeros(0, 6), torch.zeros(0).long(), torch.zeros(0), torch.zeros(4, 4, 4)
        ... )
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_detections(folder, "scan", detections, torch.eye(4, dtype=torch.float64))
        >>> len(list(folder.iterdir()))
        3
    """
    boxes, markups, heat_map = result_files(output, name)
    above = detections.above
    write_box_files(boxes, {name: detections.box_file(affine, name)})
    write_markups(markups, detections.box[above], affine, scores=detections.scores[above])
    save_nifti(heat_map, detections.heat_map, affine)


def _write_tables(output: Path, results: Sequence[FileResult]) -> None:
    boxes, scans = [], []
    for result in results:
        found = result.detections
        numbers = ("", "") if found is None else (len(found.box), int(found.above.sum()))
        state = "ok" if result.ok else "failed"
        words = result.error or "", result.note or ""
        scans.append([image_name(result.path), str(result.path), state, *numbers, *words])
        if result.detections is not None:
            boxes += box_rows(image_name(result.path), result.detections)
    header = ["case", "file", "state", "boxes", "above", "error", "note"]
    write_table(output / "scans.csv", header, scans)
    header = ["case", "score", "label", *axis_names(3), "above"]
    write_table(output / "detections.csv", header, boxes)


def box_rows(name: str, detections: Detections) -> list[list[object]]:
    """A row for each box: case, score, label, its coordinates in voxels, whether it is above."""
    parts = detections.scores, detections.label, detections.box, detections.above
    rows = zip(*(part.tolist() for part in parts), strict=True)
    return [[name, score, label, *box, above] for score, label, box, above in rows]


def _remove_earlier(scans: Sequence[Path], output: Path) -> None:
    """Remove the results that an earlier `scans.csv` lists, so that none outlives its table."""
    table, sources = output / "scans.csv", set(map(os.path.realpath, scans))
    if not table.is_file():
        return
    names = [row.get("case") or "" for row in read_table(table).rows]
    for name in names:
        for path in result_files(output, Path(name).name) if name else ():
            if os.path.realpath(path) not in sources:
                path.unlink(missing_ok=True)


def _results(scans: Sequence[Path], output: Path) -> list[Path]:
    """All files that will be written."""
    names = [output / "scans.csv", output / "detections.csv"]
    for path in scans:
        names += result_files(output, image_name(path))
    return names
