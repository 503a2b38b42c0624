"""Write captions for pictures, with their provenance."""
