"""MONAI's own calls of detection run with one import changed."""

from __future__ import annotations

from tests.support import monai_detection


def test_the_script_of_monais_tutorial_trains_validates_and_loads(tmp_path):
    monai_detection.main(tmp_path)
