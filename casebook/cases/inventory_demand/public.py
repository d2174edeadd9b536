"""The same functions on public data: a restaurant's ingredients, a gift shop's products.

What meets real data here: the levels, the textbook's safety stock, the factor, LightGBM with its
correction, and the newsvendor's cost. What does not: shelves, ages, and days that sold out. Neither
set says when something was sold out, so nothing is filled, and what censoring does cannot be seen.
"""

from __future__ import annotations

import pandas as pd

from casebook.cases.inventory_demand.demand import WEEK
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Costs
from casebook.data import real
from casebook.data.sales import online_retail, yaz
from casebook.forecasting.order_ladder import TEST, ladder
from casebook.recorded.real import from_real


def real_yaz() -> pd.DataFrame:
    """Order the restaurant's ingredients each evening for the next day.

    The weather is that of the evening: no forecast was kept, and tomorrow's would be a leak.
    """
    daily, known = yaz(real("yaz_days"), real("yaz_demand"))
    ahead = known[["holiday", "closed"]].shift(-1).fillna(0)
    today = known[["temperature", "rain", "sunshine"]]
    return from_real(
        ladder(daily, ahead.join(today), FRESH.ahead, 1, Costs.short, Costs.over),
        "yaz_days",
        "yaz_demand",
    )


def real_retail() -> pd.DataFrame:
    """Order 150 products of the gift shop on Sundays, for Thursday to Wednesday.

    The file holds two years; the first one, to 2010-12-09, is enough for 16 orders of test. The
    products are those that sold most often before the test (and the week that may be cut off).
    """
    daily = online_retail(real("online_retail"), unseen=TEST + WEEK)
    daily = daily[: daily.index[daily.index.dayofweek == 2][-1]]  # whole windows
    none = pd.DataFrame(index=daily.index)
    return from_real(ladder(daily, none, WEEKLY.ahead, 7, Costs.short, Costs.over), "online_retail")
