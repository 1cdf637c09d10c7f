"""Thousands of damaged files: each is read, or refused in one line that names it."""

from __future__ import annotations

import hashlib
import resource
import time
import warnings

import pytest
import torch

from softoverlap.images import load_image, read_box_files, read_limits
from tests.support.corpus import AFFINE, BOXES, FAMILIES, IMAGES, SEED, box_format

MOST_MEBIBYTES = 1024
MOST_SECONDS = 60
"""For one file; a loaded machine is slow, but a reader that hangs is slower."""


def digest(items):
    """Of names and contents."""
    words = hashlib.sha256()
    for item in items:
        words.update(repr((item.name, sorted(item.files.items(), key=str))).encode())
    return words.hexdigest()


@pytest.mark.parametrize("family", ["nifti2", "json", "csv"])
def test_the_same_seed_makes_the_same_files_and_another_seed_others(family):
    make = FAMILIES[family]
    assert digest(make(SEED)) == digest(make(SEED)) != digest(make(SEED + 1))


def outcome(read, path):
    """The one line of the refusal, or None."""
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            read(path)
        except (ValueError, OSError) as error:
            return str(error)
        finally:
            spent = time.monotonic() - start
            assert spent < MOST_SECONDS, f"{path.name} took {spent:.0f} s"
    return None


def check_family(read, family, folder):
    """Go through the files, of which some are refused and some can be read."""
    before, refused, count = peak(), 0, 0
    for item in FAMILIES[family](SEED):
        with read_limits(max_memory="500MB", read_timeout=MOST_SECONDS / 2):
            message = outcome(read, item.write(folder))
        assert peak() - before < MOST_MEBIBYTES, item.name
        assert message is not None or not item.refused, f"{item.name} was read"
        if message is not None:
            refused += 1
            assert item.name in message, f"{item.name!r} is not named in {message!r}"
            assert len(message.splitlines()) == 1 + item.name.count("\n"), message
        count += 1
    assert 0 < refused < count


def peak():
    """The most memory so far, of this process or one of its children, in MiB."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("family", IMAGES)
def test_a_damaged_image_is_read_or_refused_in_one_line(tmp_path, family):
    check_family(load_image, family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", BOXES)
def test_a_damaged_file_of_boxes_is_read_or_refused_in_one_line(tmp_path, family):
    options = {"format": box_format(family), "affine": torch.tensor(AFFINE).double()}
    check_family(lambda path: read_box_files(path, **options), family, tmp_path)
