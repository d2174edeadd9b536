"""Case 09: the night's lists, and what a bad model may not send."""

from __future__ import annotations

import pytest
from recommendations_fakes import DAY, NOW, fake, world

from casebook.cases.recommendations.emails import LONG, night

SIZES, STOCK = {"mail": 600, "similar": 300}, world().stock[DAY]


def test_a_night_holds_nothing_sold_out_and_a_model_whose_list_cannot_be_sends_none():
    lists = night(fake(), SIZES, STOCK, NOW)
    shapes = {name: part.shape for name, part in lists.items.items()}
    assert shapes == {"mail": (600, LONG), "similar": (300, LONG)}
    assert all(STOCK[part].all() for part in lists.items.values())
    for fault, says in (("sold out", "sold out"), ("wide", "not in the shop"), ("twice", "twice")):
        with pytest.raises(ValueError, match=f"cannot be sent: .*{says}"):
            night(fake(fault=fault), SIZES, STOCK, NOW)
