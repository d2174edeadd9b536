"""Case 10: ab testing."""
