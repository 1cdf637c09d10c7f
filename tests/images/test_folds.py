"""Folds: balanced, never with a patient in both parts, and kept as nnU-Net keeps them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from softoverlap.images import (
    Case,
    CaseTable,
    Fold,
    folds_by_patient,
    read_splits,
    split_of,
    write_splits,
)


def cases_of(*names):
    return [Case(name, name.split("_")[0], Path(name), None, ()) for name in names]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, unique=True),
    st.integers(2, 5),
    st.integers(0, 99),
)
def test_every_case_is_validated_once_and_no_patient_is_in_both_parts(numbers, count, seed):
    cases = cases_of(*(f"{patient}_{scan}" for patient, scan in numbers))
    patients = {case.name: case.patient for case in cases}
    if len(set(patients.values())) < count:
        return
    folds = folds_by_patient(cases, count, seed)
    held = [name for fold in folds for name in fold.validation]
    assert sorted(held) == sorted(patients)
    for fold in folds:
        assert sorted(fold.train + fold.validation) == sorted(patients)
        assert not {patients[a] for a in fold.train} & {patients[b] for b in fold.validation}
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= max(Counter(patients.values()).values())
    assert folds_by_patient(cases[::-1], count, seed) == folds


def test_too_few_folds_or_patients_are_refused():
    cases = cases_of("a_1", "a_2", "b_1")
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        folds_by_patient(cases, folds=1)
    with pytest.raises(ValueError, match="at least 3 patients for 3 folds, got 3 cases of 2"):
        folds_by_patient(cases, folds=3)


def test_splits_are_those_of_nnunet(tmp_path):
    path = tmp_path / "splits_final.json"
    cases = cases_of("a_1", "b_1", "c_1", "d_1")
    folds = folds_by_patient(cases, folds=2)
    write_splits(path, folds)
    assert set(json.loads(path.read_text())[0]) == {"train", "val"}
    assert read_splits(path, cases) == folds
    path.write_text('[{"train": ["a_1"], "val": ["b_1"]}]')  # others are in neither part
    assert read_splits(path, cases) == [Fold(("a_1",), ("b_1",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must be a list of splits with train and val"),
        ([], "no split"),
        ([{"train": ["a_1"]}], "got no 'val'"),
        ([{"train": ["a_1"], "val": "b_1"}], "'b_1' as val, which is no list"),
        ([{"train": ["a_1"], "val": [1]}], "1 as a name, which is no text"),
        ([{"train": ["a_1"], "val": []}], "must have cases in both parts of fold 0"),
        ([{"train": ["a_1", "b_1"], "val": ["b_1"]}], "a case in both parts of fold 0, got b_1"),
        ([{"train": ["a_1", "a_1"], "val": ["b_1"]}], "each case of fold 0 once"),
        (
            [{"train": ["a_1"], "val": ["b_1"]}, {"train": ["b_1"], "val": ["x_1"]}],
            "must name cases of the data set, got x_1 in fold 1; it has a_1, a_2, b_1",
        ),
        ([{"train": ["a_1"], "val": ["a_2"]}], "a patient in both parts of fold 0, got a"),
    ],
)
def test_wrong_splits_are_named(tmp_path, content, message):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"splits_final\.json .*{message}"):
        read_splits(path, cases_of("a_1", "a_2", "b_1"))
    with pytest.raises(FileNotFoundError, match="gone.json must be a file of splits"):
        read_splits(tmp_path / "gone.json")


def table_of(*names, own=None):
    return CaseTable(tuple(cases_of(*names)), (), fold=own)


def test_a_split_is_that_of_the_file_or_the_data_set_or_drawn(tmp_path):
    names = ("a_1", "b_1", "c_1", "d_1")
    own = Fold(("a_1", "b_1"), ("c_1",))
    assert split_of(table_of(*names, own=own), tmp_path).fold == own
    share = split_of(table_of(*names), tmp_path, validation=0.25)
    assert share.drawn == (share.fold,)
    assert split_of(table_of(*names, own=own), tmp_path, validation=0).fold == Fold(names, ())
    drawn = split_of(table_of(*names, own=own), tmp_path, folds=2, fold=1)
    assert (drawn.fold, len(drawn.drawn)) == (folds_by_patient(cases_of(*names), 2)[1], 2)
    write_splits(tmp_path / "splits_final.json", [Fold(("a_1",), ("b_1",))])
    stored = split_of(table_of(*names, own=own), tmp_path)
    assert (stored.fold, stored.drawn) == (Fold(("a_1",), ("b_1",)), ())
    with pytest.raises(ValueError, match="folds must be that of .*, 1, got 5"):
        split_of(table_of(*names), tmp_path, folds=5)
    with pytest.raises(ValueError, match=r"fold must lie in \[0, 1\), got 1"):
        split_of(table_of(*names), tmp_path, fold=1)


def test_a_split_of_the_data_set_with_a_patient_in_both_parts_is_refused(tmp_path):
    own = Fold(("a_1", "b_1"), ("a_2",))
    with pytest.raises(ValueError, match="a patient in both parts of its own split, got a"):
        split_of(table_of("a_1", "a_2", "b_1", own=own), tmp_path)
