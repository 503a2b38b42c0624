"""Measure samples: each annotator writes its own columns and decides nothing."""
