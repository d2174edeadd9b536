"""World of case 16: a parcel carrier's knowledge base, its customers' questions, its tracking API."""
