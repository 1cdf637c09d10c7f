"""Lesion by lesion: lesion-wise Dice, rows, recall, false positives, panoptic quality.

Lesions are connected components at a stated threshold, and keep their soft edges in every sum.
"""
