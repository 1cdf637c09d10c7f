"""How the files of a run are called."""

TABLES = ("cases.csv", "lesions.csv", "boxes.csv")
SUMMARY = "summary.json"
JOURNAL = "scores.jsonl"
OUTPUTS = (*TABLES, SUMMARY, JOURNAL)
