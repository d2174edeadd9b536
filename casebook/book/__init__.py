"""The rendered book: third-party scripts, execution, and the Sphinx extension."""
