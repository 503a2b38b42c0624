"""Match pictures and prompts against lists that others made: block lists and benchmarks."""
