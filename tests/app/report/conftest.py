"""A scored cohort and its page."""

from __future__ import annotations

import pytest

from tests.support.report_pages import page_of
from tests.support.report_results import write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def page(cohort):
    return page_of(cohort)
