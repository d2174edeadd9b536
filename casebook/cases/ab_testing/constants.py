"""What the simulated experiments are made of: with an effect, without, with a broken split."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from casebook.evaluate.assign import CONTROL, REST, TREATMENT


@dataclass(frozen=True)
class Constants:
    """What a world is made of; shares and factors unless said otherwise.

    Attributes
    ----------
    users, days : int
        All users of the app; days of the test.
    salt, unit : str
        Of the hash; ``"user"`` or ``"cluster"`` (communities).
    shares : dict of str to float
        Arms.
    lift : dict of str to float
        Lasting relative effect on minutes by segment; ``web`` is added on the web.
    novelty, novelty_half, primacy, primacy_half : float
        Effects on the first day, and the days in which they halve.
    spill : float
        Growth of minutes if all friends are treated.
    clicks, hides, revenue, load : float
        Relative change of clicks, hides and revenue per impression, and of loading time.
    crawlers : float
        Share of users.
    redirect_loss : float
        Share of treated users with an old web client who are lost.
    control_crawlers : float
        Crawlers wrongly counted as control, as a share of all users.
    """

    users: int = 400_000
    days: int = 14
    salt: str = "new_feed"
    unit: str = "user"
    shares: dict[str, float] = field(
        default_factory=lambda: {CONTROL: 0.05, TREATMENT: 0.05, REST: 0.90}
    )
    lift: dict[str, float] = field(
        default_factory=lambda: {"new": 0.08, "regular": 0.04, "veteran": 0.005, "web": -0.02}
    )
    novelty: float = 0.10
    novelty_half: float = 3.0
    primacy: float = -0.06
    primacy_half: float = 4.0
    spill: float = 0.02
    clicks: float = 0.025
    hides: float = 0.02
    revenue: float = -0.005
    load: float = 0.012
    crawlers: float = 0.003
    redirect_loss: float = 0.0
    control_crawlers: float = 0.0
    late: float = 0.03
    twice: float = 0.01
    wrong_clock: float = 0.0005
    both_arms: float = 0.002

    @property
    def periods(self) -> float:
        """Test periods in a year."""
        return 365 / self.days


AB = Constants()
#: The same app and log, and a treatment that changes nothing.
AA = Constants(
    lift=dict.fromkeys(("new", "regular", "veteran", "web"), 0.0),
    novelty=0.0,
    primacy=0.0,
    spill=0.0,
    clicks=0.0,
    hides=0.0,
    revenue=0.0,
    load=0.0,
)
#: A redirect that loses users and crawlers counted as control: about 4.7/5.2/90.1 for 5/5/90.
BROKEN = Constants(redirect_loss=0.6, control_crawlers=0.0020)
#: World of the committed snapshot.
SMALL = replace(AB, users=50_000)
