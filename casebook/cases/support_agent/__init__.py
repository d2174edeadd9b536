"""Case 17: an agent that answers tickets with tools and cannot be talked into anything.

``world`` has shops, tickets, customers, people and the truth; ``records`` are the types that the
parts share.
"""
