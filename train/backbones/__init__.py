"""Adapt diffusers model classes to one call signature."""
