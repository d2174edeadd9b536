"""Case 18: an assistant that answers from a firm's own documents, and shows what you may see.

``world`` is the firm, its documents, questions and source servers; ``records`` are the types that
the parts share. ``connectors`` keep a copy of the sources; ``access`` has the rights, ``library``
the texts under them. ``reading`` and ``answering`` make answers; a ``desk`` is the one way through
to them, ``service`` puts it behind HTTP. ``hunt`` looks for leaks in ``hunted`` firms and finds the
``planted`` ones. ``ladder``, ``studies`` and ``value`` judge; ``handbooks`` are two real ones.
"""
