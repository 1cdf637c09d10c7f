"""Scans that cannot be read are named and left out."""

from __future__ import annotations

import gzip

import pytest
from monai.transforms import Compose, Lambda, RandFlipd

from softoverlap.for_monai import LoadLesionCased, ReadableDataset, lesion_cases, write_failures
from softoverlap.images import find_cases, read_table, write_phantoms

LOAD = [LoadLesionCased(), RandFlipd("image", prob=0.5)]


@pytest.fixture
def scans(tmp_path):
    """Three cases, of which the second one's image ends too early."""
    write_phantoms(tmp_path, 3, seed=0, shape=(16, 16, 16), num_raters=3)
    (image,) = (tmp_path / "images").glob("phantom-0001*")
    content = gzip.decompress(image.read_bytes())
    image.write_bytes(gzip.compress(content[: len(content) // 2]))
    return lesion_cases(tmp_path)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.0])
def test_a_damaged_scan_is_named_and_left_out(scans, rate):
    with pytest.warns(UserWarning, match="1 of 3 scans could not .* is left out; phantom-0001: "):
        data = ReadableDataset(scans * 2, Compose(LOAD), cache_rate=rate, progress=False)
    names = ["phantom-0000", "phantom-0002"]
    assert [scan["name"] for scan in data.scans] == names
    assert [data[place]["name"] for place in range(len(data))] == names * 2
    assert list(data.failures) == ["phantom-0001"]
    assert "phantom-0001" in data.failures["phantom-0001"]
    held = len(data._cache)
    assert held == len(data._hash_keys) == data.cache_num == {1.0: 2, 0.5: 1, 0.0: 0}[rate]


def test_no_scan_that_can_be_read_is_an_error(scans):
    with pytest.raises(ValueError, match="a scan that can be read, got none of 1; phantom-0001: "):
        ReadableDataset(scans[1:2], Compose(LOAD), progress=False)
    assert len(ReadableDataset([], Compose(LOAD), progress=False)) == 0


def test_a_transform_that_does_not_work_is_no_damaged_scan(scans):
    def wrong(item):
        raise TypeError("wrong")

    with pytest.raises(RuntimeError) as caught:
        ReadableDataset(scans, Compose([Lambda(wrong)]), progress=False)
    assert isinstance(caught.value.__cause__, TypeError)


def test_failures_are_written_and_an_older_file_goes(scans, tmp_path):
    path = tmp_path / "run" / "failed.csv"
    with pytest.warns(UserWarning, match="left out"):
        data = ReadableDataset(scans, Compose(LOAD), progress=False)
    write_failures(path, [data, ReadableDataset(scans[:1], Compose(LOAD), progress=False)])
    (row,) = read_table(path).rows
    assert (row["case"], row["error"]) == ("phantom-0001", data.failures["phantom-0001"])
    write_failures(path, [])
    assert not path.exists()


def test_cases_that_were_found_are_not_sought_again(tmp_path, monkeypatch):
    write_phantoms(tmp_path, 2, seed=0, shape=(16, 16, 16))
    table = find_cases(tmp_path)
    monkeypatch.setattr("softoverlap.for_monai.engine.cases.find_cases", None)
    names = [case["name"] for case in lesion_cases(tmp_path, table=table)]
    assert names == ["phantom-0000", "phantom-0001"]
    with pytest.raises(ValueError, match="table goes without layout"):
        lesion_cases(tmp_path, table=table, layout="ours")
