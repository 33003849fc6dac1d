"""Vectors into a classifier: the exact head and its calibration."""
