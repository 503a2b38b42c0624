"""Train latent flow-matching models on encoded shards and sample from them."""
