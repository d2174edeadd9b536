"""Case 20, llm_gateway: one door to many language models for a hundred tenants."""
