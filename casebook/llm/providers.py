"""Where models are asked and what they cost: the part of a configuration that providers fill.

Prices are nano-dollars for a token, to three decimals ($2.50 for a million tokens are 2500, $0.0375
are 37.5). A request's cost is rounded once, up to whole nano-dollars; a bill is a sum of integers
and cannot be off by more roundings.

Examples
--------
>>> model = Model(name="small", provider="p", upstream="s-1", price_in=150, price_out=600)
>>> model.cost(tokens_in=10, tokens_out=2)
2700
>>> Model(name="s", provider="p", upstream="s-1", price_in="37.5", price_out=150).cost(3, 0)
113
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _exact(value: object) -> object:
    """Return a number, or its text in JSON, as the decimal number that it is written as."""
    try:
        return Decimal(str(value)) if type(value) in (int, float, str) else value
    except ArithmeticError:
        raise ValueError("it is no number") from None


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$")]
Count = Annotated[int, Field(ge=1, le=10**9)]
Price = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0, le=10**7, decimal_places=3),
]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Fixed(BaseModel):
    """A part of a configuration: no field is converted, and no other field is taken."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Provider(Fixed):
    """Where models are asked.

    Attributes
    ----------
    format : str
        Of its API: ``chat`` (Chat Completions) or ``messages``.
    key_env : str
        Environment variable that holds our key; the key itself is in no store.
    first_s, idle_s, total_s : float
        Seconds until the first piece of an answer, between two, and for the whole of it.
    slots : int
        Requests that it answers at a time for all tenants together.
    per_minute, burst : int
        Requests that it takes in a minute from all of them, and at once; no limit without them.
    tenants : tuple of str
        Who alone may be answered by it; empty for all.
    """

    name: Name
    url: str
    format: Literal["chat", "messages"]
    key_env: str = ""
    first_s: Seconds = 20.0
    idle_s: Seconds = 10.0
    total_s: Seconds = 120.0
    slots: Count = 64
    per_minute: Count | None = None
    burst: Count = 10
    tenants: tuple[Name, ...] = ()


class Model(Fixed):
    """A model as tenants name it, what its provider calls it, and its prices (nano-dollars).

    One that is ``private`` does not exist for a tenant that may not ask it.
    """

    name: Name
    provider: Name
    upstream: str = Field(min_length=1, max_length=200)
    price_in: Price
    price_out: Price
    context: Annotated[int, Field(ge=1, le=10**8)] = 128_000
    most_out: Annotated[int, Field(ge=1, le=10**7)] = 4_096
    private: bool = False

    def cost(self, tokens_in: int, tokens_out: int) -> int:
        """Return what so many tokens cost, in nano-dollars, rounded up."""
        exact = tokens_in * self.price_in + tokens_out * self.price_out
        return int(exact.to_integral_value(ROUND_CEILING))
