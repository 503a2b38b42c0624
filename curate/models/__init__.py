"""Load frozen networks: image-text models, text encoders, VAEs, heads."""
