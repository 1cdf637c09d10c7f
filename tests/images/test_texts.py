"""JSON and CSV: read alike everywhere, written so that no spreadsheet runs a cell."""

from __future__ import annotations

import csv
import json
import os
import time

import pytest
from hypothesis import given, strategies as st

from softoverlap.images import read_json, read_table, write_json, write_table
from softoverlap.images.texts import number_in, whole_number

RUN = ["=1+1", "+1+1", "-1-1", "@SUM(1)", "\tx", "\rx", "\n=x", "=cmd|' /C calc'!A0", " =1+1"]
NUMBERS = ["-1.5", "+2", "-1e-3", "-.5", "7", "-0"]


@pytest.mark.parametrize(
    "text", [*RUN, "'=1", "''@x", "-1-", "-a", "＝1", "-", "a;=b", "a; '-1;+1"]
)
def test_a_cell_that_runs_is_written_as_text_and_read_back(tmp_path, text):
    path = tmp_path / "a.csv"
    write_table(path, ["case", text], [[text, 1]])
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.reader(stream):
            for cell in ";".join(row).split(";"):
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    table = read_table(path)
    assert table.columns == ("case", text)
    assert table.rows == ({"case": text, text: "1"},)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_stay_numbers(tmp_path, number):
    write_table(tmp_path / "a.csv", ["bias", "text"], [[float(number), number]])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == f"{float(number)},{number}"


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
            | st.text("'=+-@\t\r\n ;,\"1.e", max_size=5),
            min_size=2,
            max_size=2,
        ),
        max_size=4,
    )
)
def test_whatever_is_written_reads_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    write_table(path, ["one", "two"], rows)
    assert [list(row.values()) for row in read_table(path).rows] == rows


TEXTS = {
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 of others": b"\xfe\xff" + '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "latin": b'{"\xe4": 1}',
    "cut within a letter": b'{"\xc3',
}


@pytest.mark.parametrize("name", TEXTS)
def test_another_encoding_is_named(tmp_path, name):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXTS[name])
    encoding = name.split()[0] if name.startswith("UTF") else "byte 0x"
    for read, kind in ((read_json, "JSON"), (read_table, "CSV")):
        with pytest.raises(
            ValueError, match=rf"a\.txt must be a {kind} file in UTF-8, got {encoding}"
        ):
            read(path)


def test_a_mark_at_the_start_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[1]\r\n2\r\n")
    assert read_table(tmp_path / "a").rows == ({"[1]": "2"},)
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a") == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty one"),
        (" \n", "got an empty one"),
        ("\0", "got: Expecting value"),
        ("[" * 100_000, "got: lists or objects that are nested too deeply"),
        ('{"a":' * 100_000, "got: lists or objects that are nested too deeply"),
        ("1" + "0" * 5000, "got: Exceeds the limit"),
        ('{"a": [{"b": 1, "b": 1}]}', "got: the key 'b' twice in one object"),
        ('{"a": 1', "got: Expecting"),
        ("[1] 2", "got: Extra data"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json must be a JSON file, {message}") as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_what_is_written_as_json_reads_back_whole(tmp_path):
    content = {"a": [1, 0.1, None, True, "ä\ud800"], "-b": {}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert json.loads((tmp_path / "a.json").read_text()) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,a\n1,2,3\n", "must have each column once, got 'a' twice"),
        ("a,b\n1,2,3\n", "must have a cell for each column, line 2 has not: 3 cells for 2"),
        ('a\n"1\n', "must be a CSV file, got: unexpected end of data"),
        ('a\n"1"2\n', "must be a CSV file, got: ',' expected after"),
        ("a\n" + "1" * 200_000, "must be a CSV file, got: field larger than field limit"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.csv {message}") as error:
        read_table(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


def test_empty_cells_at_the_end_and_empty_lines_say_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,,\n\n1,2,,\n,,,,,\n3\n")
    rows = [(row.get("a"), row.get("b")) for row in read_table(tmp_path / "a.csv").rows]
    assert rows == [("1", "2"), ("", ""), ("3", None)]
    (tmp_path / "a.csv").write_text("")
    assert read_table(tmp_path / "a.csv").columns == ()


@pytest.mark.bad_input
def test_numbers_of_cells_are_plain():
    whole = [number_in(text, whole=True) for text in ("1", "1.0", "+2.", "-3.00", " 4 ")]
    assert whole == [1, 1, 2, -3, 4]
    for text in ("1.5", "1_0", "1e3", "٣", "", "nan", "0x1", "1,5", "True"):
        with pytest.raises(ValueError, match="no whole number"):
            number_in(text, whole=True)
    for text in ("1_0", "٣", "", "0x1", "1,5", "1 2", "True", "--1"):
        with pytest.raises(ValueError, match="no number"):
            number_in(text)
    for value in (1.5, True, None, "1", float("nan"), [1]):
        with pytest.raises(ValueError, match="no whole number"):
            whole_number(value)
    assert whole_number(1e300) == int(1e300)


def test_keys_and_columns_are_counted_once(tmp_path):
    names = [f"k{number}" for number in range(50_000)]
    text = ",".join(f'"{name}": 1' for name in [*names, names[-1]])
    (tmp_path / "a.json").write_text(f"{{{text}}}")
    (tmp_path / "a.csv").write_text(",".join(names))
    start = time.process_time()
    with pytest.raises(ValueError, match="the key 'k49999' twice in one object"):
        read_json(tmp_path / "a.json")
    assert len(read_table(tmp_path / "a.csv").columns) == 50_000
    assert time.process_time() - start < 10  # minutes, if each were compared with each


@pytest.mark.parametrize("read", [read_json, read_table])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match=r"a\.csv must be a .* file, found a pipe"):
        read(tmp_path / "a.csv")


def test_rows_know_their_lines(tmp_path):
    (tmp_path / "a.csv").write_text('\na,b\n\n1,"x\ny"\r\n2,\n\n3,4\n')
    assert read_table(tmp_path / "a.csv").lines == (4, 6, 8)
    (tmp_path / "a.csv").write_text('a,b\n"1\n2",3\n\n1,2,3\n')
    with pytest.raises(ValueError, match="line 5 has not: 3 cells for 2"):
        read_table(tmp_path / "a.csv")
