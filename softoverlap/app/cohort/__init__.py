"""Many cases: paired, scored on one machine or many, kept as they are finished, and summed up."""

from softoverlap.app.cohort.cases import score_case
from softoverlap.app.cohort.dask import DaskRunner
from softoverlap.app.cohort.pairing import PairTable, ScorePair, find_pairs, read_pairs
from softoverlap.app.cohort.records import CaseResult, ScoreSettings
from softoverlap.app.cohort.run import CohortResult, score_cohort
from softoverlap.app.cohort.runners import ProcessPool, serial
from softoverlap.app.cohort.summary import summarize

__all__ = [
    "CaseResult",
    "CohortResult",
    "DaskRunner",
    "PairTable",
    "ProcessPool",
    "ScorePair",
    "ScoreSettings",
    "find_pairs",
    "read_pairs",
    "score_case",
    "score_cohort",
    "serial",
    "summarize",
]
