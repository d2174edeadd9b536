"""Case 04: delivery eta."""
