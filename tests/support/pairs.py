"""Folders of empty files to be paired, and what pairing made of them."""

from __future__ import annotations


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def paired(table):
    return {pair.case: (pair.pred, *pair.truth) for pair in table.matched}


def errors(table):
    return {pair.case: pair.error for pair in table.unmatched}
