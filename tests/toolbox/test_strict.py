"""Strict bodies: what is wrong with a field is told with what to send, and nothing is converted."""

from __future__ import annotations

import pytest
from pydantic import model_validator

from casebook.serving.strict import Moment, Number, Problem, Strict, parse, stamp, unstamp


class Order(Strict):
    invalid = "invalid order"
    remedy = "Send less than ten, or a time."
    hidden = frozenset({"card"})

    number: Number
    card: Number = 0
    at: Moment | None = None

    @model_validator(mode="after")
    def _fits(self):
        if self.number > 9 and self.at is None:
            raise ValueError("more than nine, and no time")
        return self


@pytest.mark.parametrize(
    ("body", "status", "what", "do"),
    [
        (b"{", 400, "Expecting", "one JSON object"),
        (b"[1]", 400, "a JSON array", "one JSON object"),
        (b'{"number": 1, "number": 2}', 400, "stands twice", "one JSON object"),
        (b'{"number": "1"}', 422, 'number is "1"', "a whole number"),
        (b'{"number": 1, "more": 2}', 422, '"more" is no field', "one of number, card, at"),
        (b'{"card": 1}', 422, "number is missing", "a whole number"),
        (b'{"number": 1, "card": "4111"}', 422, "card is no such thing", "Send card"),
        (b'{"number": 10}', 422, "More than nine", "less than ten"),
    ],
)
def test_a_wrong_body_is_told_what_to_send(body, status, what, do):
    with pytest.raises(Problem) as refused:
        parse(body, Order)
    problem = refused.value
    assert problem.status == status and what in problem.what and do in problem.do
    assert problem.error == ("invalid order" if status == 422 else "malformed JSON")
    assert "4111" not in str(problem.body)


def test_moments_are_read_in_utc_to_the_millisecond_and_written_back():
    order = parse(b'{"number": 99, "at": "2025-07-01T14:00:00.1239+02:00"}', Order)
    assert stamp(order.at) == "2025-07-01T12:00:00.123Z" and unstamp(stamp(order.at)) == order.at
    with pytest.raises(Problem, match="no offset"):
        parse(b'{"number": 99, "at": "2025-07-01T14:00:00"}', Order)
