"""Measure generated pictures and write the report."""
