"""Names of the files of a run."""

from softoverlap.app.columns import TABLES

SUMMARY = "summary.json"
JOURNAL = "scores.jsonl"
METHODS = "methods.txt"
LATEX = "results.tex"
OUTPUTS = (*TABLES, SUMMARY, METHODS, LATEX, JOURNAL)
