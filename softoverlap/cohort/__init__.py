"""Many cases: paired, scored on one machine or many, kept as they are finished, and summed up."""

from softoverlap.cohort.cases import score_case
from softoverlap.cohort.dask import DaskRunner
from softoverlap.cohort.pairing import PairTable, ScorePair, find_pairs, read_pairs
from softoverlap.cohort.records import CaseResult, ScoreSettings
from softoverlap.cohort.run import CohortResult, score_cohort
from softoverlap.cohort.runners import ProcessPool, serial
from softoverlap.cohort.summary import summarize

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
