"""Hierarchies, reconciliation and forecasting helpers."""
