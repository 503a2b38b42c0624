"""Judge captions over all shards: measured attempts, texts counted, verdicts."""
