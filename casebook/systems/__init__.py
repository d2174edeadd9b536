"""What is too long for a cell: the running parts of the case studies."""
