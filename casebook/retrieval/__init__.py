"""Retrieval over a knowledge base: chunks, BM25, dense vectors, fusion, an index on disk.

``text`` reads words, ``chunks`` cuts articles, ``lexical`` and ``dense`` rank passages, ``fusion``
and ``rerank`` join rankings, ``evaluate`` scores them; ``index`` keeps articles with versions and
validity in a file, searches them at a time and lets a caller's filter hide passages.
"""
