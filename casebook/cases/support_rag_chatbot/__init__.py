"""Case 16: the support chatbot around the retriever.

``feed`` stands before the index: it refuses articles and audits those that it lets through.
``privacy`` masks personal data before anything else reads a turn; ``understand`` finds language,
entities, intent and attacks; ``languages`` searches (with ``glossary``); ``answer`` quotes and
checks; ``conversation`` chooses a route, with what ``learned`` holds. ``evaluation``, ``judging``
and ``policies`` measure, ``learning`` learns, ``studies`` are the tables, ``drills`` time a reply
and break what is around it, ``crash`` kills an update; ``artifacts`` and ``benchmarks`` are made
by ``make``.
"""
