"""Case 17: an agent that answers tickets with tools and cannot be talked into anything.

``world`` has shops, tickets, customers, people and the truth; ``records`` are the types that the
parts share. ``policy`` decides, ``ledger`` holds the steps to money, ``desk`` has the tools,
``planner`` chooses them, ``agent`` is the conversation, ``service`` puts it behind HTTP. ``ladder``
and ``studies`` judge; ``attacks`` hunts, and finds the ``planted`` bugs.
"""
