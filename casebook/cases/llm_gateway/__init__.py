"""Case 20: llm gateway."""
