"""Overlap with several raters, and among them."""
