"""Files that appear whole: when they are on the disk, and under which name until then."""

from __future__ import annotations

import os

from softoverlap.images import whole_file


def test_processes_of_one_number_on_one_share_write_to_names_of_their_own(tmp_path):
    path = tmp_path / "note.txt"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the last to end
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    steps, replace, sync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda *a: (steps.append("sync"), sync(*a)))
    monkeypatch.setattr(os, "replace", lambda *a: (steps.append("replace"), replace(*a)))
    with whole_file(tmp_path / "note.txt") as unfinished:
        unfinished.write_text("done")
    assert steps == ["sync", "replace"]
    assert (tmp_path / "note.txt").read_text() == "done"
