"""Several raters: overlap with them, what they reach among themselves, energy distance."""

from softoverlap.measures.raters.overlap import (
    GeneralisedEnergyDistanceMetric,
    HumanCeilingMetric,
    RaterOverlapMetric,
    compute_generalised_energy_distance,
    compute_human_ceiling,
    compute_rater_overlap,
)

__all__ = [
    "GeneralisedEnergyDistanceMetric",
    "HumanCeilingMetric",
    "RaterOverlapMetric",
    "compute_generalised_energy_distance",
    "compute_human_ceiling",
    "compute_rater_overlap",
]
