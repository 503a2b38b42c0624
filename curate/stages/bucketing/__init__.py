"""Place pictures in buckets by their sizes, deal them to shards, and write them resized once."""
