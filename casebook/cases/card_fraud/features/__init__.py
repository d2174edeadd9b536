"""The feature store of card fraud: what features are, for a table and for one event."""

from .definition import ASKED, FEATURES, LABEL_DELAY, MEMORY, REFUSED, handbook
from .online import OnlineStore, replay
from .table import batch, evidence

__all__ = ["ASKED", "FEATURES", "LABEL_DELAY", "MEMORY", "REFUSED", "OnlineStore", "batch"]
__all__ += ["evidence", "handbook", "replay"]
