"""Case 21: deployment pipeline."""
