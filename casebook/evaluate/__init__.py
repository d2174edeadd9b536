"""Splits, metrics and intervals."""
