"""The page of results, read."""

from __future__ import annotations

from softoverlap.app.report import write_report
from tests.support.parsed_pages import Parsed


def page_of(folder, **options):
    return Parsed(write_report(folder, **{"overwrite": True, **options}).path.read_text())
