"""Case 03: inventory demand."""
