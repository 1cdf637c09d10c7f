"""Names of the files of a run."""

from softoverlap.app.columns import TABLES

SUMMARY = "summary.json"
JOURNAL = "scores.jsonl"
OUTPUTS = (*TABLES, SUMMARY, JOURNAL)
