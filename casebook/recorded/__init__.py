"""What a page shows as recorded: benchmarks and artifacts."""
