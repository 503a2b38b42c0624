"""Hold the parts of filter: rules and their thresholds, the columns they judge, the verdicts."""
