"""Many cases: paired, scored on one machine or many, kept as they are finished, and summed up."""

from softoverlap.app.cohort.cases import score_case
from softoverlap.app.cohort.dask import DaskRunner
from softoverlap.app.cohort.loading import check_label_maps
from softoverlap.app.cohort.pairing import PairTable, ScorePair, find_pairs, read_pairs
from softoverlap.app.cohort.patients import patient_of, read_patients
from softoverlap.app.cohort.records import CaseResult, ScoreSettings
from softoverlap.app.cohort.run import CohortResult, score_cohort
from softoverlap.app.cohort.runners import ProcessPool, Runner, serial
from softoverlap.app.cohort.sides import BOX_SUFFIXES
from softoverlap.app.cohort.summary import summarize

__all__ = [
    "BOX_SUFFIXES",
    "CaseResult",
    "CohortResult",
    "DaskRunner",
    "PairTable",
    "ProcessPool",
    "Runner",
    "ScorePair",
    "ScoreSettings",
    "check_label_maps",
    "find_pairs",
    "patient_of",
    "read_pairs",
    "read_patients",
    "score_case",
    "score_cohort",
    "serial",
    "summarize",
]
