"""Exact soft overlap of masks and boxes, for people who train with MONAI."""
