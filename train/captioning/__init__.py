"""Fit a captioner's model to labelled answers; knows neither its family nor its data."""
