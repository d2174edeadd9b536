"""What a cell shows: claims, figures, tables, the scorecard."""
