"""Hold what every layer shares: shards, stages, manifest, config, seeds, images; no torch."""
