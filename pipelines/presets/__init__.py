"""Values-only YAML presets, one per pipeline."""
