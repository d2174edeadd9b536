"""The case studies: each folder holds one case's world, questions and own modules."""
