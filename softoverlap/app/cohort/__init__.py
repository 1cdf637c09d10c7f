"""Many cases: paired, scored on one machine or many, kept as they are finished, and summed up."""

from softoverlap.app.cohort.case_names import read_case_names
from softoverlap.app.cohort.cases import score_case
from softoverlap.app.cohort.dask import DaskRunner
from softoverlap.app.cohort.hit_rule import CRITERIA
from softoverlap.app.cohort.loading import check_label_maps
from softoverlap.app.cohort.one_file import is_same_file
from softoverlap.app.cohort.operating import SummarySettings
from softoverlap.app.cohort.pair_table import read_pairs
from softoverlap.app.cohort.pairing import NO_PREDICTION, NO_TRUTH, PairTable, ScorePair, find_pairs
from softoverlap.app.cohort.patients import read_patients, subject_of
from softoverlap.app.cohort.points import check_lists
from softoverlap.app.cohort.records import CaseResult, ScoreSettings
from softoverlap.app.cohort.run import CohortResult, score_cohort
from softoverlap.app.cohort.runners import ProcessPool, Runner, serial
from softoverlap.app.cohort.sides import BOX_SUFFIXES
from softoverlap.app.cohort.summary import summarize

__all__ = [
    "BOX_SUFFIXES",
    "CRITERIA",
    "NO_PREDICTION",
    "NO_TRUTH",
    "CaseResult",
    "CohortResult",
    "DaskRunner",
    "PairTable",
    "ProcessPool",
    "Runner",
    "ScorePair",
    "ScoreSettings",
    "SummarySettings",
    "check_label_maps",
    "check_lists",
    "find_pairs",
    "is_same_file",
    "read_case_names",
    "read_pairs",
    "read_patients",
    "score_case",
    "score_cohort",
    "serial",
    "subject_of",
    "summarize",
]
