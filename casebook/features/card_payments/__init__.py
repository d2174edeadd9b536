"""The feature store of card payments: what features are, for a table and for one event.

Two cases use it: one decides with it, the other retrains what decides.

Examples
--------
A payment of 20 euro, and an hour later one of 30 by the same customer at the same shop:

>>> import pandas as pd
>>> at = pd.to_datetime(["2025-07-01 12:00", "2025-07-01 13:00"])
>>> row = {"customer": 7, "card": 70, "terminal": 3, "category": "grocery", "country": "home"}
>>> row |= {"channel": "in person", "entry": "chip", "outcome": "approved"}
>>> payments = pd.DataFrame([row, row]).assign(
...     transaction=[0, 1], request=[0, 1], received=at, amount=[20.0, 30.0]
... )
>>> payments["device"] = payments["ip"] = pd.array([None, None], "Int64")
>>> shops = pd.DataFrame({"terminal": [3], "x": [0.0], "y": [0.0]})
>>> people = pd.DataFrame(
...     {"customer": [7], "joined": at[:1], "home_x": [0.0], "home_y": [3.0]}
... )
>>> none = pd.DataFrame({"transaction": [], "known": pd.to_datetime([])})
>>> table = batch(payments, shops, people, none)
>>> table[["amount", "customer_count_24h", "customer_sum_24h", "km_from_home"]].values.tolist()
[[20.0, 0.0, 0.0, 3.0], [30.0, 1.0, 20.0, 3.0]]
>>> bool((replay(payments, shops, people, none) == table).all(axis=None))
True
"""

from .definition import ASKED, FEATURES, LABEL_DELAY, MEMORY, REFUSED, handbook
from .online import OnlineStore, replay
from .table import batch, evidence

__all__ = ["ASKED", "FEATURES", "LABEL_DELAY", "MEMORY", "REFUSED", "OnlineStore", "batch"]
__all__ += ["evidence", "handbook", "replay"]
