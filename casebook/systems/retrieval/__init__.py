"""Retrieval over a knowledge base: chunks, BM25, dense vectors, fusion, an index on disk."""
