"""Case 21: from notebook to 100 % and back."""
