"""Scans held in memory, without those that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from monai.data.dataset import CacheDataset
from monai.data.utils import pickle_hashing

from softoverlap._checks import own_error
from softoverlap.images import write_table


class ReadableDataset(CacheDataset):
    """MONAI's `CacheDataset`, which names scans that cannot be read, and goes on without them.

    Each scan is read once at the start, also where it is not held in memory. So a damaged file
    ends no run after hours, and all that follow count the same scans. A scan that occurs several
    times in the data is read and held once.

    Args:
        data: Scans, as of `lesion_cases`.
        transform: A `Compose`; what stands before its first random transform is done once.
        options: Those of MONAI's `CacheDataset` but for `hash_as_key` and `runtime_cache`.

    Raises:
        ValueError: If no scan can be read, of one or more.

    Examples:
        >>> from monai.transforms import Compose
        >>> from softoverlap.for_monai import LoadLesionCased
        >>> ReadableDataset([{"name": "a", "image": "no-such.nii"}], Compose([LoadLesionCased()]))
        Traceback (most recent call last):
        ValueError: data must hold a scan that can be read, got none of 1; a: ...
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Any, **options: Any) -> None:
        self.failures: dict[str, str] = {}
        super().__init__(data, transform, hash_as_key=True, hash_func=pickle_hashing, **options)

    @property
    def scans(self) -> list[Any]:
        """Each scan that could be read, once."""
        return list({self.hash_func(scan): scan for scan in self.data}.values())

    def set_data(self, data: Sequence[Any]) -> None:
        """Read the scans, and hold some or all of them.

        Args:
            data: Scans, as of `lesion_cases`.

        Raises:
            ValueError: If no scan can be read, of one or more.
        """
        failed: dict[Any, tuple[str, str]] = {}
        self._failed = failed
        super().set_data(list(data))
        places = {self.hash_func(scan): place for place, scan in enumerate(self.data)}
        with ThreadPool(self.num_workers or 1) as pool:
            others = [place for key, place in places.items() if key not in self._hash_keys]
            for _ in pool.imap(lambda place: bool(self._load_cache_item(place)), others):
                pass  # nothing of it is kept
        self.data = [scan for scan in self.data if self.hash_func(scan) not in failed]
        held = zip(self._hash_keys, self._cache, strict=True)
        kept = [(key, scan) for key, scan in held if key not in failed]
        self._hash_keys, self._cache = [key for key, _ in kept], [scan for _, scan in kept]
        self.cache_num = len(kept)
        self.failures = dict(failed[key] for key in places if key in failed)
        self._tell(len(places))

    def _load_cache_item(self, idx: int) -> Any:
        """The scan after what is done once, or None if it cannot be read."""
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            reason = own_error(error)
            if not isinstance(reason, (OSError, ValueError)):
                raise
            scan = self.data[idx]
            name = str(scan.get("name", idx))
            self._failed[self.hash_func(scan)] = name, " ".join(str(reason).split())
            return None

    def _tell(self, count: int) -> None:
        if not self.failures:
            return
        name, reason = next(iter(self.failures.items()))
        if not self.data:
            raise ValueError(
                f"data must hold a scan that can be read, got none of {count}; {name}: {reason}"
            )
        many = len(self.failures)
        left, first = ("is", "") if many == 1 else ("are", "the first is ")
        told = f"{many} of {count} scans could not be read and {left} left out"
        warnings.warn(f"{told}; {first}{name}: {reason}", stacklevel=5)


def write_failures(path: str | os.PathLike[str], datasets: Sequence[ReadableDataset]) -> None:
    """Write which scans could not be read, and why; without such scans there is no file.

    Args:
        path: The CSV file; its folder is made, and an existing file is replaced.
        datasets: The data sets of a run.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "failed.csv"
        >>> write_failures(path, [])
        >>> path.exists()
        False
    """
    path = Path(path)
    rows = [list(failure) for dataset in datasets for failure in dataset.failures.items()]
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, ["case", "error"], rows)
    else:
        path.unlink(missing_ok=True)
