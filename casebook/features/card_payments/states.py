"""What the online store keeps of a customer, a terminal, a device and an address."""

from __future__ import annotations

from bisect import bisect_right

from casebook.features.windows import DAY

from .definition import MONTH


class _State:
    """A piece of state with the store that may change it, since when it is and its last use."""

    __slots__ = ("born", "frauds", "last", "owner", "refused", "times")

    def __init__(self, owner: object):
        self.owner = owner
        self.born = self.last = 0
        self.frauds = 0
        self.times: list[int] = []  # of purchases
        self.refused: list[int] = []  # of those of a day that were refused

    def copy(self, owner: object) -> _State:
        twin = type(self)(owner)
        for kind in type(self).__mro__[:-1]:
            for name in kind.__slots__:
                value = getattr(self, name)
                shared = not isinstance(value, (list, set, dict))
                setattr(twin, name, value if shared else value.copy())
        twin.owner = owner
        return twin


class _Customer(_State):
    """What the store keeps of a customer."""

    __slots__ = ("devices", "place", "small", "terminals", "total")

    def __init__(self, owner: object):
        super().__init__(owner)
        self.total = [0]  # cents before each of the times, and after the last
        self.small: list[int] = []
        self.place: tuple[float, float, int, int] | None = None  # x, y, country, ms
        self.terminals: dict[int, int] = {}  # last use
        self.devices: dict[int, tuple[int, int]] = {}  # first and last use

    def trim(self, now: int) -> None:
        gone = bisect_right(self.times, now - MONTH)
        del self.times[:gone], self.total[:gone]
        for times in (self.small, self.refused):
            del times[: bisect_right(times, now - DAY)]


class _Terminal(_State):
    """What the store keeps of a terminal: purchases and known frauds among them."""

    __slots__ = ("fraud_times",)

    def __init__(self, owner: object):
        super().__init__(owner)
        self.fraud_times: list[int] = []

    def trim(self, oldest: int) -> None:
        for times in (self.times, self.fraud_times):
            del times[: bisect_right(times, oldest)]


class _Machine(_State):
    """What the store keeps of a device or an address."""

    __slots__ = ("users",)

    def __init__(self, owner: object):
        super().__init__(owner)
        self.users: dict[int, int] = {}  # customer → latest use, the latest last

    def use(self, customer: int, now: int, memory: int) -> None:
        users = self.users
        users.pop(customer, None)
        users[customer] = now
        while (oldest := next(iter(users))) != customer and users[oldest] <= now - memory:
            del users[oldest]

    def others(self, customer: int, now: int, window: int) -> int:
        count = 0
        for user, used in reversed(self.users.items()):
            if used <= now - window:
                break
            count += user != customer
        return count
