"""Measures as functions of masks and options, and as MONAI metrics with all options in one call."""

from __future__ import annotations

from softoverlap.for_monai import MeasureMetric
from softoverlap.measures import LesionRecall

OF_A_CALL = ("mask", "raters", "spacing")
OF_THE_METRIC = ("reduction", "get_not_nans", "return_with_label")


def as_function(measure):
    """`measure(**settings)(*masks, **inputs)` as one function."""

    def score(*masks, **options):
        inputs, settings = _parted(options, OF_A_CALL)
        return measure(**settings)(*masks, **inputs)

    return score


def with_statistics(measure, read):
    """What a method of the measure reads from its statistics, as one function."""

    def result(*masks, **options):
        inputs, settings = _parted(options, OF_A_CALL)
        made = measure(**settings)
        return getattr(made, read)(made.statistics(*masks, **inputs))

    return result


def as_metric(measure):
    """`MeasureMetric(measure(**settings), **options)` as one function."""

    def metric(**options):
        own, settings = _parted(options, OF_THE_METRIC)
        return MeasureMetric(measure(**settings), **own)

    return metric


def lesion_matches(*masks, **options):
    """The rows of `LesionRecall(**settings).matches(*masks, **inputs)`."""
    inputs, settings = _parted(options, OF_A_CALL)
    return LesionRecall(**settings).matches(*masks, **inputs)


def _parted(options, names):
    chosen = {name: options[name] for name in names if name in options}
    return chosen, {name: value for name, value in options.items() if name not in names}
