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
from softoverlap.app.train.detections import Detections, check_channels, limited, scan_of
from softoverlap.app.train.inference import detect, threshold_of, together
from softoverlap.for_monai import LoadLesionCased, scans_to_detect
from softoverlap.images import (
    CHANNEL_NAME,
    IMAGE_SUFFIXES,
    Volume,
    axis_names,
    check_names,
    check_written,
    find_files,
    image_name,
    read_table,
    save_nifti,
    write_box_files,
    write_markups,
    write_table,
)

ScanFiles = Path | tuple[Path, ...]
"""The file of a scan, or one for each of its channels."""

_TABLES = {
    "scans.csv": ["case", "file", "state", "boxes", "above", "error", "note"],
    "detections.csv": ["case", "score", "label", *axis_names(3), "above"],
}
"""The tables of a folder of results, and their columns."""


@dataclass(frozen=True, eq=False)
class FileResult:
    """The result for one scan.

    Args:
        path: The scan, or the file of its first channel.
        detections: What was found in it, or None if it failed.
        error: Why it failed, or None.
        note: What a user should know about the scan, or None.
        further: The files of its other channels.

    Examples:
        >>> FileResult(Path("scan.nii.gz"), None, "it is truncated").ok
        False
    """

    path: Path
    detections: Detections | None
    error: str | None = None
    note: str | None = None
    further: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the scan, without suffix and number of a channel."""
        return scan_name((self.path, *self.further))

    @property
    def ok(self) -> bool:
        """Whether the scan could be read and its results written."""
        return self.error is None


def find_scans(sources: Sequence[str | os.PathLike[str]], channels: int = 1) -> list[ScanFiles]:
    """Images that are named, in a folder, or match a pattern.

    Args:
        sources: Files, folders (their own files, those of `images/` in a training folder, or one
            DICOM series) and patterns such as `"scans/*_flair.nii.gz"`. A named file need not
            exist: it fails later, without stopping the others.
        channels: Channels of a scan. Of two or more, each may have a file of its own, named as
            nnU-Net does: `sub-01_0000.nii.gz`, `sub-01_0001.nii.gz`.

    Returns:
        Files in the order of the sources, those of one source by name; each once. A scan of
        several files is a tuple of them; then all are in the order of their names.

    Raises:
        FileNotFoundError: If a folder or a pattern has no image.
        ValueError: If two files have the same name, so that their results would collide, or a scan
            lacks the file of a channel.

    Examples:
        >>> find_scans(["a.nii.gz", "b.mha", "a.nii.gz"])
        [PosixPath('a.nii.gz'), PosixPath('b.mha')]
    """
    whole = [path / "images" if (path / "images").is_dir() else path for path in map(Path, sources)]
    if channels > 1:
        images = [scan["image"] for scan in scans_to_detect(whole, channels)]
        return [Path(one) if isinstance(one, str) else tuple(map(Path, one)) for one in images]
    scans = find_files(whole, IMAGE_SUFFIXES, "images")
    check_names(scans, image_name, "images")
    return [*scans]


def scan_name(scan: ScanFiles) -> str:
    """The name of a scan; that of one with several files ends before the number of the channel."""
    files = files_of(scan)
    name = image_name(files[0])
    match = CHANNEL_NAME.fullmatch(name) if len(files) > 1 else None
    return match["case"] if match else name


def files_of(scan: ScanFiles) -> tuple[Path, ...]:
    """All files of a scan."""
    return scan if isinstance(scan, tuple) else (scan,)


def detect_files(
    model: LesionDetector | Sequence[LesionDetector],
    scans: Sequence[ScanFiles],
    output: str | os.PathLike[str],
    *,
    score: float | int | None = None,
    max_boxes: int | None = None,
    tta: bool = False,
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
        model: A trained detector, or several, whose results are joined; see `detect`.
        scans: The files, as of `find_scans`.
        output: Folder for the results; created if it does not exist.
        score: Lowest score of a box that is kept, of joined boxes where there are several
            detectors; by default all that `detect` finds.
        max_boxes: Largest number of boxes of a scan, those of the highest scores.
        tta: Look at flips of each scan too; see `detect`.
        overwrite: Replace existing results, and remove those that an earlier `scans.csv` lists.
            Scans, and tables of other origin with such names, are never replaced.
        progress: Called after every file; it may raise `KeyboardInterrupt` to stop there.

    Returns:
        The result for each scan.

    Raises:
        FileExistsError: If a result exists already, or would replace a scan or a table of other
            origin.
        ValueError: If the detectors cannot be joined.
        KeyboardInterrupt: On Ctrl-C, with the number of scans that are done.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> from softoverlap.app.train import fresh_detector
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_nifti(folder / "scan.nii.gz", torch.rand(16, 16, 16), torch.eye(4))
        >>> model = fresh_detector({"patch_size": [16, 16, 16]})
        >>> [result.ok for result in detect_files(model, find_scans([folder]), folder / "found")]
        [True]
    """
    output, models = Path(output), together(model)
    sources = [file for scan in scans for file in files_of(scan)]
    _check_own(output)
    check_written(_results(scans, output), sources, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    _remove_earlier(sources, output)
    results: list[FileResult] = []
    try:
        for scan in scans:
            results.append(_detect_file(models, scan, output, (score, max_boxes, tta)))
            if progress is not None:
                progress(results[-1])
    except KeyboardInterrupt:
        _write_tables(output, results)
        done = f"{len(results)} of {len(scans)} scans are done, with results in {output}"
        raise KeyboardInterrupt(done) from None
    _write_tables(output, results)
    return results


def _detect_file(
    models: Sequence[LesionDetector],
    scan: ScanFiles,
    output: Path,
    options: tuple[float | int | None, int | None, bool],
) -> FileResult:
    score, most, tta = options
    path, *further = files_of(scan)
    try:
        image = _read(models[0], scan)
        note = _why_nothing(image)
        detections = detect(models, image, tta=tta) if note is None else _nothing(models, image)
        detections = limited(detections, score, most)
        write_detections(output, scan_name(scan), detections, image.affine)
    except (ValueError, OSError) as error:
        return FileResult(path, None, str(error), further=tuple(further))
    return FileResult(path, detections, note=note, further=tuple(further))


def _read(model: LesionDetector, scan: ScanFiles) -> Volume:
    """The channels of a scan, shape (C, D, H, W); an error names the file."""
    files = [str(file) for file in files_of(scan)]
    image = LoadLesionCased()({"image": files[0] if len(files) == 1 else files})["image"]
    volume = scan_of(image)
    check_channels(volume, model, files[0])
    return volume


def _why_nothing(image: Volume) -> str | None:
    """A note if every channel is constant, so that nothing can be seen."""
    levels = [float(channel.flatten()[0]) for channel in image.data]
    pairs = zip(image.data, levels, strict=True)
    if not all(bool((channel == level).all()) for channel, level in pairs):
        return None
    return f"all voxels are {', '.join(f'{level:g}' for level in levels)}: no boxes"


def _nothing(models: Sequence[LesionDetector], image: Volume) -> Detections:
    """No boxes, and an empty heat map."""
    none = torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    threshold, rule = threshold_of(models)
    return Detections(
        *none,
        heat_map=torch.zeros(image.grid),
        score_threshold=threshold,
        threshold_rule=rule,
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
        scans.append([result.name, str(result.path), state, *numbers, *words])
        if result.detections is not None:
            boxes += box_rows(result.name, result.detections)
    for (name, header), rows in zip(_TABLES.items(), (scans, boxes), strict=True):
        write_table(output / name, header, rows)


def box_rows(name: str, detections: Detections) -> list[list[object]]:
    """A row for each box: case, score, label, its coordinates in voxels, whether it is above."""
    labels = torch.as_tensor(detections.box_file().labels)
    parts = detections.scores, labels, detections.box, detections.above
    rows = zip(*(part.tolist() for part in parts), strict=True)
    return [[name, score, label, *box, above] for score, label, box, above in rows]


def _check_own(output: Path) -> None:
    """Refuse tables of other origin, which bear the names of ours."""
    for name, columns in _TABLES.items():
        path = output / name
        if path.is_file() and not _begins_with(path, columns[:3]):
            raise FileExistsError(
                f"{path} must not be replaced, since it is no table of `softoverlap detect`, which "
                f"begins with {','.join(columns[:3])}: pass another `output=`"
            )


def _begins_with(path: Path, columns: Sequence[str]) -> bool:
    """Whether the file is a table with these columns first."""
    try:
        return list(read_table(path).columns[: len(columns)]) == list(columns)
    except ValueError:
        return False


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


def _results(scans: Sequence[ScanFiles], output: Path) -> list[Path]:
    """All files that will be written."""
    names = [output / name for name in _TABLES]
    for scan in scans:
        names += result_files(output, scan_name(scan))
    return names
