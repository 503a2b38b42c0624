"""Fit a captioner on shards of pictures and captions: samples, numbers, files."""
