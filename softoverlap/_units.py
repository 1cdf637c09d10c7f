"""Units that several rooms share."""

MM3_PER_ML = 1000.0

MAX_LESION_MM = 32.0
"""The longest edge of a lesion that a box is asked to find; larger ones are ignored."""
