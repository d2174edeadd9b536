"""Simulated worlds, one for each case study, with their ground truth kept apart."""
