"""Features that batch and service compute alike."""
