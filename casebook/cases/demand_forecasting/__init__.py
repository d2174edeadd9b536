"""Case 01: from the depots' feed to a coherent forecast at every level, and to the staff plan."""
