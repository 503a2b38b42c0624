"""The curation stages: ingest, annotate, filter, dedup, recaption, bucket, encode."""
