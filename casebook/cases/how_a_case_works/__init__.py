"""Case 00: how a case works, on twelve series."""
