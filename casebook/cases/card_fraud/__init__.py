"""Case 12: features, models, policies and the decision service of card fraud."""
