"""Whose scan each case is: by its name, or by a table."""

from __future__ import annotations

import pytest

from softoverlap.app.cohort import read_patients, subject_of


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("sub-01", "sub-01"),
        ("sub-01_ses-2_run-1", "sub-01"),
        ("sub-01.flair", "sub-01"),
        ("dataset/sub-MS7/ses-1/anat/sub-MS7_ses-1_FLAIR", "sub-MS7"),
        ("pred_sub-12_mask", "sub-12"),
        ("sub-", "sub-"),
        ("sub-01-b", "sub-01-b"),  # no label of BIDS
        ("mysub-01_x", "mysub-01_x"),
        ("patient1_visit2", "patient1_visit2"),
    ],
)
def test_the_patient_is_the_bids_subject_or_the_case_itself(case, patient):
    assert subject_of(case) == patient


def write(folder, text, encoding="utf-8"):
    path = folder / "patients.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table_names_patients_in_the_order_of_the_cases(tmp_path):
    table = write(tmp_path, "age,patient,case\n40, ann ,b\n41,ann,a\n50,Bob,c\n", "utf-8-sig")
    patients = read_patients(table, ["a", "c", "b"])
    assert list(patients.items()) == [("a", "ann"), ("c", "Bob"), ("b", "ann")]
    assert read_patients(str(table), ["b", "b"]) == {"b": "ann"}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case,name\na,ann\n", "must have the columns case and patient, separated by commas, got"),
        ("", "must have the columns case and patient, separated by commas, got none"),
        ("case,patient\n", "must have one row per case, got none"),
        ("case,patient\na,ann\nb,bob\na,ann\n", "must have one row per case, got a second of a"),
        ("case,patient\na,\n", "must name a patient in each row, got none in row 2"),
        ("case,patient\na,ann\n ,bob\n", "must name a case in each row, got none in row 3"),
        ("case,patient\na\n", "must name a patient in each row, got none in row 2"),
        ("case,patient\nA,ann\n", "must have a row for every case, got none for a, b; it names A"),
    ],
)
def test_a_table_that_does_not_say_whose_each_case_is_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=rf"patients\.csv {words}"):
        read_patients(write(tmp_path, text), ["a", "b"])


@pytest.mark.bad_input
def test_of_many_unknown_cases_a_few_are_named(tmp_path):
    table = write(tmp_path, "case,patient\n" + "".join(f"{n},p\n" for n in range(9)))
    words = r"got none for x0, x1, x2, x3, x4 and 3 more; it names 0, 1, 2, 3, 4, …"
    with pytest.raises(ValueError, match=words):
        read_patients(table, [f"x{n}" for n in range(8)])


@pytest.mark.bad_input
def test_a_table_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv must be a CSV table, found no such"):
        read_patients(tmp_path / "gone.csv", ["a"])
    with pytest.raises(ValueError, match="must be a CSV table in UTF-8, got"):
        read_patients(write(tmp_path, "case,patient\nä,b\n", "latin-1"), ["a"])
