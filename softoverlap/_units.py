"""Units that several rooms share."""

MM3_PER_ML = 1000.0
