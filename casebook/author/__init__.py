"""Tools for the notebooks of the course: normalise, check, execute, generate exercises."""
