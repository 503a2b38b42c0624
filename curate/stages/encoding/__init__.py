"""Turn bucketed shards into a latent store: the parts of the stage encode."""
