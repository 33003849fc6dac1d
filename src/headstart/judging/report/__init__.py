"""The report: one self-contained page that says how good a classifier is, and why, to a person."""
