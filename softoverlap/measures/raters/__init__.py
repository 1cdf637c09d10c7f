"""Several raters: overlap with them, what they reach among themselves, energy distance."""
