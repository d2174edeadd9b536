"""Case 07: subscription churn."""
