"""Where models are asked and what they cost: the part of a configuration that providers fill.

Prices are nano-dollars for a token, with up to three decimals: $2.50 for a million tokens are 2,500
and $0.0375 are 37.5. What a request costs is computed in whole thousandths and rounded up once, to
a whole nano-dollar: a bill is a sum of integers.

Examples
--------
>>> model = Model(name="small", provider="p", upstream="s-1", price_in=150, price_out=600)
>>> model.cost(tokens_in=10, tokens_out=2)
2700
>>> Model(name="tiny", provider="p", upstream="t", price_in=37.5, price_out=150).cost(1, 1)
188
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$")]
Count = Annotated[int, Field(ge=1, le=10**7)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


def _thousandths(price: float) -> float:
    if abs(1000 * price - round(1000 * price)) > 1e-6:
        raise ValueError("a price has at most three decimals, in nano-dollars a token")
    return price


#: Nano-dollars for a token; with the bound of ``Count``, no request can cost more than 2e14.
Price = Annotated[int | float, Field(ge=0, le=10**7), AfterValidator(_thousandths)]


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
    context: Count = 128_000
    most_out: Count = 4_096
    private: bool = False

    def cost(self, tokens_in: int, tokens_out: int) -> int:
        """Return what so many tokens cost, in nano-dollars."""
        each = round(1000 * self.price_in), round(1000 * self.price_out)
        return -(-(tokens_in * each[0] + tokens_out * each[1]) // 1000)
