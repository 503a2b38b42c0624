"""Find pairs of duplicates, join them into clusters, choose who stays."""
