"""Case 16: the support chatbot around the retriever.

``feed`` is the contract of its articles. ``understand`` finds what a turn names; ``languages``
searches (with ``glossary``); ``answer`` quotes and checks, ``generation`` lets a model write;
``tracker`` asks where a parcel is; ``conversation`` chooses a route, with what ``learned`` holds.
``evaluation`` and ``policies`` measure, ``learning`` learns, ``studies`` are the tables; ``drills``
and ``outage`` time a reply and break what is around it, ``crash`` kills an update; ``artifacts``
and ``benchmarks`` are made by ``make``.
"""
