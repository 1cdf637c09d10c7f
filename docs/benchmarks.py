"""Write the stored runs of the benchmarks into the page and the README, and draw them.

Run it from the project's root: python docs/benchmarks.py
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _demo import demo_words
from _plots import draw_growth, draw_headlines, save
from _ratios import Ratio, ratios
from _tables import markdown_table, with_block

PAGE = Path(__file__).with_name("benchmarks.md")
README = Path(__file__).parents[1] / "README.md"
RESULTS = Path(__file__).parents[1] / "benchmarks/results"

TITLES = {
    "losses": "Losses of volumes",
    "mask_boxes": "Masks and boxes",
    "anchors": "Anchors",
    "boxes": "Boxes",
    "thresholds": "Thresholds",
    "lesionwise_step": "A step of the lesion-wise loss",
}
NOTES = {
    "losses": "Forward and backward in float32.",
    "mask_boxes": "`rasters`: 100,000 boxes on a mask of 128³. `box_iou`: 190,000 anchors and 12 "
    "lesions, against MONAI's `box_iou` on the lesions' boxes.",
    "anchors": "315,360 anchors and 100 soft lesions, against MONAI's ATSS on their boxes.",
    "boxes": "2,000 × 20,000 pairs, 10,000 oriented and 1,000,000 aligned ones, suppression.",
    "thresholds": "100 thresholds at 128³; lesion maps are mostly 0, dense ones nowhere.",
    "lesionwise_step": "Forward and backward at 2×1×128³ with 50 lesions an item. The reach is in "
    "voxels; the peers are Dice and cross entropy of the whole image alone.",
}
ALONE = "memory alone, "
NOT_RUN = "Not run."
MOST_ERROR = 0.1  # of an exponent: with more it cannot be told from another

Stored = Mapping[str, Mapping[str, Any]]


def stored_runs() -> Stored:
    """All stored runs, by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def blocks(stored: Stored) -> dict[str, str]:
    """What stands between the marks of the page; a run that is missing is said to be."""
    return {
        "headlines": headlines(stored),
        "comparisons": comparisons(stored),
        "scans": scans(stored),
        "growth": growth(stored),
        "gpu": gpu(stored),
    }


def headlines(stored: Stored) -> str:
    """One case of each kind, and a picture of them."""
    if "headlines" not in stored:
        return NOT_RUN
    run = stored["headlines"]
    cases = [(f"`{row.what}`, {run[row.what]['on']}", row) for row in ratios(run)]
    picture = "![Time of each case as a multiple of its peer's](figures/headlines.png)"
    return "\n\n".join((_machine(run), _table(cases), picture))


def comparisons(stored: Stored) -> str:
    """Every other ratio that a CPU's run holds, under a heading for each script."""
    names = [*TITLES, *(name for name in stored if name not in {*TITLES, "headlines"})]
    parts = []
    for name in names:
        run = stored.get(name, {})
        rows = [(row.what, row) for row in ratios(run)]
        if name in TITLES or (rows and not _on_gpu(name, run)):
            text = f"{_machine(run)}\n\n{_table(rows)}" if rows else NOT_RUN
            script = f"`benchmarks/{name}.py`. {NOTES.get(name, '')}".strip()
            parts.append(f"### {TITLES.get(name, name)}\n{script} {text}")
    return "\n\n".join(parts)


def scans(stored: Stored) -> str:
    """What a pair and a second's worth of scans take; runs of an earlier script hold less."""
    name = "scans" if "scans" in stored else "cohort"
    if name not in stored:
        return NOT_RUN
    run = stored[name]
    speed, large = run.get("runners", run.get("speed")), run.get("large", run.get("memory"))
    rows = [
        (f"`{runner}`", f"{one['scans_a_second']:.2f}", f"{one['seconds_to_first']:.1f}")
        for runner, one in speed["runs"].items()
    ]
    parts = [
        f"`benchmarks/{name}.py`. {_machine(run)}",
        *(_cohort(kind, one) for kind, one in run.get("cohort", {}).items()),
        f"{speed['scans']} pairs of {_shape(speed['shape'])} voxels:",
        markdown_table(("runner", "scans a second", "seconds to the first"), rows),
        f"A pair of {_shape(large['shape'])} takes {large['seconds']:.1f} s and holds "
        f"{large['peak_bytes'] / large['volumes_bytes']:.1f} times its two float32 volumes.",
    ]
    if haze := run.get("haze"):
        held = haze["volumes_with_both_masks"]
        parts.append(f"A haze that spans {_shape(haze['shape'])} holds {held:.1f} volumes.")
    return "\n\n".join(parts)


def _cohort(kind: str, one: Mapping[str, Any]) -> str:
    return (
        f"{one['pairs']} pairs of {kind}, {_shape(one['shape'])}, {one['workers']} workers: "
        f"{one['seconds']:.0f} s in all, {one['seconds_a_pair']:.2f} s a pair from the first on."
    )


def growth_run(stored: Stored) -> Mapping[str, Any] | None:
    """The full run, or else the quick one."""
    return stored.get("growth", stored.get("growth_quick"))


def growth(stored: Stored) -> str:
    """The exponents of all curves, what lies above its theory, and the picture."""
    run = growth_run(stored)
    if run is None:
        return NOT_RUN
    setting = "All sizes" if "growth" in stored else "A quick run: some curves, few sizes"
    if "unfinished" in run:
        setting += ", cut off"
    head = ("curve", "grows with", "largest", "s", "MiB", "time", "theory", "memory", "theory")
    rows = [_curve_row(*item) for item in run["curves"].items() if item[1]["axis"] != "workers"]
    above = [
        f"{what} of {name}"
        for name, curve in run["curves"].items()
        for what in ("time", "memory")
        if curve.get(what, {}).get("above") and not name.startswith(ALONE)
    ]
    alone = [
        f"{curve['time']['exponent']:.2f} for {name.removeprefix(ALONE)}"
        for name, curve in run["curves"].items()
        if name.startswith(ALONE) and "exponent" in curve["time"]
    ]
    fits = [
        curve[what]
        for curve in run["curves"].values()
        for what in ("time", "memory")
        if "exponent" in curve.get(what, {})
    ]
    told = sum(fit["standard_error"] <= MOST_ERROR for fit in fits)
    words = f"Above the theory: {'; '.join(above)}." if above else "None is seen above its theory."
    if alone:
        words += f" Reading and writing alone, with nothing of ours, has {' and '.join(alone)}: a"
        words += " byte of large results costs this machine more, whoever writes them."
    words += f" Of {len(fits)} exponents, {told} have a standard error of at most {MOST_ERROR:g};"
    words += " the others tell little."
    picture = "![Time and memory of each curve over its size](figures/growth.png)"
    parts = [f"{setting}. {_machine(run)}", markdown_table(head, rows), words, *_workers(run)]
    return "\n\n".join((*parts, picture))


def _curve_row(name: str, curve: Mapping[str, Any]) -> tuple[str, ...]:
    side = curve["sizes"][-1]
    size = f"{side}³" if curve["axis"] == "voxels" else f"{side:,}"
    last = f"{curve['seconds'][-1]:.3g}", f"{curve['bytes'][-1] / 2**20:,.0f}"
    exponents = [cell for what in ("time", "memory") for cell in _exponent(curve[what])]
    return (name, curve["axis"], size, *last, *exponents)


def _exponent(fit: Mapping[str, Any]) -> tuple[str, str]:
    """The exponent with its error, and the theory with what that gives at the same sizes."""
    if "exponent" not in fit:
        return "too little to fit", fit["theory"]
    exponent = f"{fit['exponent']:.2f} ± {fit['standard_error']:.2f}"
    return (f"**{exponent}**" if fit["above"] else exponent), (
        f"{fit['theory']}: {fit['expected']:.2f}"
    )


def _workers(run: Mapping[str, Any]) -> Iterable[str]:
    for name, curve in run["curves"].items():
        if curve["axis"] == "workers":
            seconds = curve["seconds"]
            rows = [
                (workers, f"{one:.1f}", f"{seconds[0] / one / workers:.0%}")
                for workers, one in zip(curve["sizes"], seconds, strict=True)
            ]
            yield f"{name}, by processes, their start included:"
            yield markdown_table(("processes", "seconds", "of the ideal speed"), rows)


def gpu(stored: Stored) -> str:
    """Every ratio that a GPU's run holds."""
    runs = {name: run for name, run in stored.items() if _on_gpu(name, run)}
    parts = [] if any(n.startswith("gpu") for n in runs) else [f"`benchmarks/gpu.py`: {NOT_RUN}"]
    for name, run in runs.items():
        rows = [(row.what, row) for row in ratios(run)]
        if table := _targets(run) if "targets" in run else _table(rows) if rows else "":
            script = name.removesuffix(_suffix(run))
            parts.append(f"`benchmarks/{script}.py`. {_machine(run)}\n\n{table}")
    return "\n\n".join(parts)


def _targets(run: Mapping[str, Any]) -> str:
    """What was to be reached, and what was."""
    rows = []
    for what, one in run["targets"].items():
        wanted = (
            f"at most {one['at_most']:g}" if "at_most" in one else f"at least {one['at_least']:g}"
        )
        rows.append((what, f"{one['measured']:.3g}", wanted, "yes" if one["reached"] else "**no**"))
    return markdown_table(("what", "measured", "wanted", "reached"), rows)


def speed(stored: Stored) -> str:
    """The sentence of the README on what the overlap and the losses cost."""
    times = {row.what: row.time for row in ratios(stored.get("headlines", {}))}
    crops = (row.time for row in ratios(stored.get("mask_boxes", {})) if "crops" in row.what)
    overlap = times.get("mask_box_dice", next(crops, None))
    if overlap is None:
        return "How fast it is has [not been measured](docs/benchmarks.md)."
    sentence = (
        "On a CPU, [measured](docs/benchmarks.md) side by side, the overlap of 190,000 anchors "
        f"with 12 soft lesions takes {overlap:.2f} of the time of MONAI's `box_iou` on their boxes"
    )
    if loss := times.get("SoftDiceLoss"):
        sentence += f", and `SoftDiceLoss` {loss:.2f} of that of `DiceLoss(soft_label=True)`"
    return textwrap.fill(f"{sentence}. {_on_gpu_words(stored)}", 110, break_long_words=False)


def _on_gpu_words(stored: Stored) -> str:
    """What the overlap costs on a GPU, where pairs that miss are scored too."""
    for name in sorted(stored):  # gpu.py before mask_boxes.py, whose run is older
        run = stored[name]
        if _on_gpu(name, run) and (times := _crops_on_gpu(run)):
            words = f"the overlap took {times:.2g} times as long as `box_iou`"
            by = "" if name.startswith("gpu") else ", by an earlier version"
            return f"On a GPU ({run['machine']['device']}) {words}{by}."
    return "On a GPU it was not measured."


def _crops_on_gpu(run: Mapping[str, Any]) -> float | None:
    """Crops of lesions over MONAI's `box_iou`, as a target or as a ratio."""
    found = [one["measured"] for what, one in run.get("targets", {}).items() if "crops" in what]
    return next(iter(found + [row.time for row in ratios(run) if "crops" in row.what]), None)


def _table(rows: Iterable[tuple[str, Ratio]]) -> str:
    """Ours over the peer: below 1 ours is the faster, or the smaller."""
    cells = []
    for what, row in rows:
        spread = "" if row.spread is None else "{:.2f} to {:.2f}".format(*row.spread)
        memory = "" if row.memory is None else f"{row.memory:.2f}"
        cells.append((what, row.peer, _times(row.time), spread, memory))
    return markdown_table(("what", "peer", "time over peer", "spread", "memory over peer"), cells)


def _times(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _machine(run: Mapping[str, Any]) -> str:
    """What a reader needs to judge the figures; older runs do not say all of it."""
    machine = run["machine"]
    kind = machine.get("processor") or machine["device"]
    if machine["device"] not in (kind, "x86_64"):
        kind = f"{machine['device']}, {kind}"
    threads = machine["torch_threads"]
    note = f" **{run['note']}**" if "note" in run else ""
    return (
        f"{kind}, {machine['cpu_cores']} cores, {threads} thread{'s' * (threads > 1)}, PyTorch "
        f"{machine['torch']}, MONAI {machine['monai']}.{note}"
    )


def _suffix(run: Mapping[str, Any]) -> str:
    return "_" + run["machine"]["device"].replace(" ", "_")


def _on_gpu(name: str, run: Mapping[str, Any]) -> bool:
    """Runs on a GPU bear its name."""
    return "machine" in run and "device" in run["machine"] and name.endswith(_suffix(run))


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


def with_blocks(page: str, stored: Stored) -> str:
    """The page with each block between its marks written anew."""
    for name, text in blocks(stored).items():
        page = with_block(page, text, name, f"end of {name}")
    return page


def with_speed(readme: str, stored: Stored) -> str:
    """The README with its sentences on speed and on the demo written anew."""
    readme = with_block(readme, demo_words(stored), "demo", "end of demo")
    return with_block(readme, speed(stored), "speed", "end of speed")


if __name__ == "__main__":
    runs = stored_runs()
    PAGE.write_text(with_blocks(PAGE.read_text(encoding="utf-8"), runs), encoding="utf-8")
    README.write_text(with_speed(README.read_text(encoding="utf-8"), runs), encoding="utf-8")
    if "headlines" in runs:
        save(draw_headlines(runs["headlines"]), "headlines", runs["headlines"])
    if grown := growth_run(runs):
        save(draw_growth(grown), "growth", grown)
