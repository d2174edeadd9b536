"""The questions of the exercises: their checks, hints and the mistakes they must catch."""
