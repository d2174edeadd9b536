"""Case 18: an assistant that answers from a firm's own documents, and shows what you may see.

``records`` are the types that the parts share. ``world`` is the firm, its documents, questions and
source servers; ``connectors`` keep a copy of the sources up to date; ``handbooks`` are two real
ones, with questions of our own.
"""
