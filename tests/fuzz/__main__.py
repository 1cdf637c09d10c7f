"""Run what is not finished: `make fuzz`, or `python -m tests.fuzz`.

Each family of files goes through each command as one folder, in a process of its own that is
watched. Finished runs are kept in `runs/fuzz/journal.jsonl` and not repeated unless the package or
the corpus changes. When all are done, the figures go into `benchmarks/results/fuzz.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.folders import KINDS, commands_of
from tests.fuzz.runs import ROOT, Run, figures, run
from tests.support.corpus import SEED

STORED = ROOT / "benchmarks/results/fuzz.json"


def _fingerprint() -> str:
    """Changes with the package and the corpus."""
    digest = hashlib.sha256(str(SEED).encode())
    for folder in ("softoverlap", "tests/support/corpus", "tests/fuzz"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _finished(journal: Path, print_of: str) -> dict[tuple[str, str], Run]:
    """Runs of this package on this corpus."""
    runs: dict[tuple[str, str], Run] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        row = json.loads(line)
        if row.pop("fingerprint") == print_of:
            one = Run(**{**row, "unnamed": tuple(row["unnamed"])})
            runs[one.family, one.command] = one
    return runs


def _pairs(kinds: Iterable[str]) -> list[tuple[str, str]]:
    return [(kind, command) for kind in kinds for command in commands_of(kind)]


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not finished; the status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(KINDS), help="names, with commas")
    parser.add_argument("--fresh", action="store_true", help="repeat what is finished")
    options = parser.parse_args(words)
    work = ROOT / "runs/fuzz"
    work.mkdir(parents=True, exist_ok=True)
    journal, print_of = work / "journal.jsonl", _fingerprint()
    runs = {} if options.fresh else _finished(journal, print_of)
    for kind, command in _pairs(options.kinds.split(",")):
        known = (kind, command) in runs
        if not known:
            items = list(KINDS[kind](SEED))
            one = runs[kind, command] = run(kind, command, items, work / kind / command)
            with journal.open("a") as stream:
                stream.write(json.dumps({"fingerprint": print_of, **asdict(one)}) + "\n")
        print(runs[kind, command].line(), "(kept)" if known else "", flush=True)
    ordered = [runs[pair] for pair in _pairs(KINDS) if pair in runs]
    if len(ordered) == len(_pairs(KINDS)):
        STORED.write_text(json.dumps(figures(ordered), indent=1) + "\n")
        print(f"written to {STORED.relative_to(ROOT)}")
    bad = sum(not one.holds for one in ordered)
    print(f"{len(ordered)} processes, {bad} did not hold")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
