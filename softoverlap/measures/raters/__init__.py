"""Scores against several raters."""
