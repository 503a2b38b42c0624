"""Curate image-text data: the shard format, the stages and the frozen models they use."""
