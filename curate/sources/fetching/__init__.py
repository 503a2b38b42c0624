"""Fetch URLs: what is refused, what is waited for, what is respected."""
