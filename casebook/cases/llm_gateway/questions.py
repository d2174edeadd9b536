"""Questions of exercise 20, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.llm_gateway import exercise_data as data
from casebook.cases.llm_gateway.artifacts import CASE
from casebook.exercises.asked import Exercise, Labels, Number, Prediction, parts
from casebook.exercises.grading import student_seed

SEED = 20
_GIVEN = ("arrivals", "plan", "events", "pieces", "queue", "requests")
exercise = Exercise(CASE, SEED, {name: getattr(data, name) for name in _GIVEN})


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.llm_gateway.exercise_data import "

#: Of counts and of money, which are whole numbers.
WHOLE = Number(1e-9, unrounded=False)

q1 = exercise.asked(
    1,
    "`passed`, `first_wait`, `worst` and `bound`, four numbers",
    setup=f"{_FROM}BURST, PER_MINUTE, by_minute, first_wait as wait_of, most_in, passes\n"
    "lets, counted = passes(arrivals), by_minute(arrivals)\n",
    parts=parts(
        """
passed = lets.sum()
[bool(one) for one in lets].count(True)
len(arrivals[lets])
  {value:g} requests do not pass a bucket of {BURST} tokens that fills with one a second.
counted.sum()
  This many pass a counter that starts again each minute.
passes(arrivals, greedy=True).sum()
  A refused request takes no token: a client that keeps asking would never get through.
passes(arrivals, cap=False).sum()
  Your bucket has no rim. It holds {BURST} tokens at most, however long it is left alone.
len(arrivals)
  These are all requests.
(~lets).sum()
  These are the refused ones.

first_wait = wait_of(arrivals)
np.round(wait_of(arrivals), 6)
  {value:g} s after the first refusal there is not yet one token, or there was one before.
1 - wait_of(arrivals)
  This is what is in the bucket. The rest of a token has to flow in.
60 / PER_MINUTE
  This is the time of a whole token. A part of one was there.
BURST * 60 / PER_MINUTE
  After this time the bucket is full. One token is enough.

worst = most_in(arrivals[counted])
max(((arrivals[counted] >= t) & (arrivals[counted] <= t + 60)).sum() for t in arrivals)
  {value:g} is not the most requests that the counter lets pass within 60 s.
PER_MINUTE
  That holds from one full minute to the next. Which 60 s would somebody choose who wants more?
most_in(arrivals)
  These arrive. Count those that the counter lets pass.
most_in(arrivals[lets])
  This is the bucket's worst span.
2 * PER_MINUTE
  So many are possible. How many did pass here?

bound = BURST + PER_MINUTE
BURST + 60 * PER_MINUTE / 60
  The greediest client gets another number than {value:g} through within 60 s.
PER_MINUTE
  A bucket that was left alone is full at the start of these 60 s.
BURST + PER_MINUTE - 1
  This leaves out the last moment. Here both ends of the 60 s count.
most_in(arrivals[lets])
  So many did pass here. What is possible?
2 * PER_MINUTE
  This is the bound of the counter.
BURST * PER_MINUTE
  Burst and rate are added, not multiplied.
""",
        passed=WHOLE,
        worst=WHOLE,
        bound=WHOLE,
    ),
    prediction=Prediction(
        "guess_1",
        ("bucket", "counter"),
        "'counter' if worst > bound else 'bucket'",
        "The counter lets {worst:.0f} pass within 60 s, the bucket never more than {bound:.0f}.",
    ),
    shows="The bucket lets {passed:.0f} of {len(arrivals)} pass, the first one refused waits "
    "{first_wait:.2f} s. The counter lets {worst:.0f} pass within one minute of its choice.",
    hints=(
        "Keep the level and the time of the last request: between two requests a token flows in "
        "each second, up to the rim. What the level lacks of one token is the wait.",
        "Look around the border of two minutes. For each request that the counter lets pass count "
        "those that pass at most 60 s later.",
        "When is a client that wants most best off before it begins? Add up where the tokens of "
        "its 60 s come from.",
    ),
    helps=("passed", "worst", "bound"),
)

q2 = exercise.asked(
    2,
    "`down`, `load`, `failing` and `budgeted`, four numbers",
    setup=f"{_FROM}SHARE\nrate, capacity, retries, calls, fails = plan\n",
    parts=parts(
        """
down = rate * calls * (1 + retries)
rate * calls + rate * calls * retries
sum(rate for _ in range(int(calls)) for _ in range(int(1 + retries)))
  {value:g} attempts a second do not follow from {calls:g} calls of {1 + retries:g} attempts each.
rate * (calls + 1 + retries)
  Layers multiply: each call of the client is a new one for the gateway.
rate * calls * retries
  A retry comes after a first attempt: the gateway makes {1 + retries:g}.
rate * (1 + retries)
  The client calls again, too.
rate * calls
  The gateway tries again, too.

load = rate * (1 - fails ** (retries + 1)) / (1 - fails)
rate * sum(fails**k for k in range(int(retries) + 1))
rate * np.sum(fails ** np.arange(retries + 1))
  {value:g} is not rate × (1 + p + p² + …), up to p to the power of {retries:g}.
rate / (1 - fails)
  This is the sum without an end. After {retries:g} retries the gateway gives up.
rate * (1 + retries)
  Only what fails is tried again.
rate * (1 + fails)
  This is one retry.
rate * (1 + retries * fails)
  The second retry comes only if the first one has failed, too.
rate * (1 - fails**retries) / (1 - fails)
  One term is missing: {retries:g} retries after the first attempt.

failing = (1 - capacity / rate) ** (1 / (retries + 1))
np.exp(np.log(1 - capacity / rate) / (retries + 1))
((rate - capacity) / rate) ** (1 / (1 + retries))
  With this share of failing attempts {rate * (1 - value ** (retries + 1)):.0f} requests a second
  would be answered, and the provider answers {capacity:g}.
1 - capacity / rate
  This is the share without retries. With them more attempts share the same capacity.
1 - capacity / (rate * (1 + retries))
  Not all requests use all of their attempts: most get through before.
(1 - capacity / rate) ** (1 / retries)
  A request is lost when {1 + retries:g} attempts have failed, not {retries:g}.
capacity / rate
  This is the share of the requests that are answered.
100 * (1 - capacity / rate) ** (1 / (retries + 1))
  Give a share, not per cent.

budgeted = rate * (1 + SHARE)
rate + SHARE * rate
sum((rate, rate * SHARE))
  {value:g} are not the first attempts and the retries that the budget allows them.
rate * (1 + SHARE * retries)
  The budget is a tenth of the requests, however many retries one of them may take of it.
rate / (1 - SHARE)
  This is a tenth of all attempts. Take a tenth of the requests.
rate * (1 + retries) * SHARE
  First attempts need no budget.
rate * SHARE
  These are the retries. First attempts come on top.
""",
        failing=Number(0.002),
    ),
    prediction=Prediction(
        "guess_2",
        ("yes", "no"),
        "'yes' if 1 - failing ** (retries + 1) > capacity / rate + 1e-6 else 'no'",
        "The provider answers {capacity:g} a second in both cases.",
    ),
    shows="A provider that is down meets {down:,.0f} attempts a second instead of {rate:,.0f}. "
    "One that is only {1 - capacity / rate:.0%} too small sees {failing:.0%} of the attempts fail "
    "and meets {capacity / (1 - failing):,.0f} a second. With a budget it is never more than "
    "{budgeted:,.0f}.",
    hints=(
        "Follow one request: which attempts does each call make if all fail? With independent "
        "failures attempt k + 1 is made with probability p to the power of k.",
        "If a share p of the attempts fails, how many requests a second are answered? Set that "
        "equal to the capacity and solve for p.",
        "Count first attempts and retries apart. Which of them does the budget bound, and by a "
        "tenth of what?",
    ),
    helps=("load", "failing", "budgeted"),
)

q3 = exercise.asked(
    3,
    "`naive` and `bill`, two numbers, `twice`, a set of requests, and `held`, a number",
    setup=f"""{_FROM}billed, ended
from casebook.cases.llm_gateway.exercise_data import naive as all_of
settled = events[events["event"] == "settle"]
ends = ended(events)
reserves = events[events["event"] == "reserve"].set_index("request")["nano"]
still = reserves.drop(ends["request"].unique())
def wrong_set(value, right):
    if not value:
        return "Nothing is chosen. Some requests have more than one settlement."
    if extra := sorted(set(value) - set(right)):
        return ", ".join(extra) + ": not settled more than once."
    return "What is chosen is right, and not all of it is there."
""",
    parts=parts(
        """
naive = all_of(events)
events.query("event == 'settle'")["nano"].sum()
sum(n for n, e in zip(events["nano"], events["event"]) if e == "settle")
  {value:g} is not the sum of all lines that settle.
events["nano"].sum()
  These are reservations and settlements together: money that was only set aside is in it.
settled.drop_duplicates("request")["nano"].sum()
  Here, take every line that settles, as a log that nobody cleans would.

bill = billed(events)
ends.drop_duplicates("request").query("event == 'settle'")["nano"].sum()
ends.groupby("request").first().query("event == 'settle'")["nano"].sum()
  {value:g} is not the sum of those requests whose first end is a settlement.
billed(events, "any")
  Some of these were released before they were settled: their clients have been told that they
  failed.
billed(events, "last")
  The first line that ends a request holds. What comes later changes nothing.
billed(events, "max")
  Here a line that came twice counts at its higher sum, and a release does not count at all.
all_of(events)
  This bills some requests twice.

twice = {*settled["request"][settled["request"].duplicated()]}
set(settled["request"].value_counts().loc[lambda n: n > 1].index)
[r for r, n in settled.groupby("request").size().items() if n > 1]
  {wrong_set(value, right)}
{*ends["request"][ends["request"].duplicated()]}
  Some of these have one settlement and one release.
{*settled["request"]}
  These are all that were settled.

held = still.sum()
sum(still.to_list())
reserves.sum() - reserves[reserves.index.isin(ends["request"])].sum()
  {value:g} is not what requests without an end have reserved.
reserves.sum()
  Whatever has ended holds nothing any more.
len(still)
  This is their number.
reserves.sum() - billed(events)
  A reservation ends as a whole: what was not spent of it goes back.
""",
        naive=WHOLE,
        bill=WHOLE,
        twice=Labels("reserves.index"),
        held=WHOLE,
    ),
    prediction=Prediction(
        "guess_3",
        ("less", "more"),
        "'less' if naive / bill < 1.2 else 'more'",
        "The log bills {naive / bill - 1:.0%} too much.",
    ),
    shows="The log bills {naive:,.0f}, and {bill:,.0f} is right: {len(twice)} requests were "
    "settled twice, others after they had been released. {held:,.0f} are still set aside.",
    hints=(
        "Leave the reservations out. Which line of each request comes first, and does it bill?",
        "Look at the lines with `settle` only, and count how often each `request` is in them.",
        "Look for requests that have a `reserve` and no other line, and add up what they reserve.",
    ),
    helps=("bill", "twice", "held"),
)

q4 = exercise.asked(
    4,
    "`alone`, `whole` and `hold`, three numbers",
    setup=f"{_FROM}NUMBER, alone as in_pieces, cards, least, valid\n"
    "text, borders = ''.join(pieces), np.cumsum([*map(len, pieces)])\n",
    parts=parts(
        """
alone = in_pieces(pieces)
sum(valid(found) for piece in pieces for found in NUMBER.findall(piece))
len([1 for piece in pieces for found in NUMBER.finditer(piece) if valid(found[0])])
  {value:g} cards are not found when each piece is searched by itself.
len(cards(text))
  These are found in the whole text.
sum(len(NUMBER.findall(piece)) for piece in pieces) + len(NUMBER.findall(text))
  You counted the whole text, too.

whole = len(cards(text))
sum(map(valid, NUMBER.findall(text)))
len([found for found in NUMBER.findall(''.join(pieces)) if valid(found)])
  {value:g} numbers of the whole text do not pass the check digit.
len(NUMBER.findall(text))
  Some of these are no cards: `valid` says so.
in_pieces(pieces)
  Join the pieces first.
len(NUMBER.findall(text)) - len(cards(text))
  These are the numbers that are no cards.

hold = least(pieces)
max(e - m.start() for m in cards(text) for e in borders if m.start() < e < m.end())
float(least(pieces))
  {"With fewer characters no digit leaves too early, either." if value > right
  else "With so few characters a digit of a card leaves before the card is complete."}
least(pieces, only_cards=False)
  This also holds back the numbers that are no cards.
max(len(m[0]) for m in cards(text)) - 1
  This is enough for any cut. Asked for is the least for these pieces.
max(len(m[0]) for m in cards(text))
  This is the longest card with its blanks. When its last piece is there, nothing need be held.
16
  Blanks are characters, too, and this text is not cut before each last digit.
""",
    ),
    prediction=Prediction(
        "guess_4",
        ("most", "few"),
        "'most' if alone > whole / 2 else 'few'",
        "{alone:.0f} of {whole:.0f} are found piece by piece.",
    ),
    shows="Piece by piece {alone:.0f} of the {whole:.0f} cards are found. A guard that holds "
    "back {hold:.0f} characters finds all of them in this stream.",
    hints=(
        "`NUMBER.findall(piece)` for each piece, and `valid` for each number.",
        "`''.join(pieces)` first, then `NUMBER.findall` and `valid`.",
        "Where does each piece end (`np.cumsum`)? At an end within a card, count from its start.",
    ),
    helps=("alone", "whole", "hold"),
)

q5 = exercise.asked(
    5,
    "`by_arrival`, `fair` and `everybody`, three numbers",
    setup=f"""{_FROM}COMPANY, served
noisy = queue["tenant"].mode()[0]
calm = (queue["tenant"] != noisy).to_numpy()
waits = {{rule: served(queue, rule) for rule in ("arrival", "fair", "no clock", "priority")}}
""",
    parts=parts(
        """
by_arrival = waits["arrival"][calm].mean()
(np.arange(len(queue)) - queue["at"])[calm].mean()
np.mean([n - at for n, (at, who) in enumerate(zip(queue["at"], queue["tenant"])) if who != noisy])
  {value:g} s is not the mean wait of the two quiet tenants by arrival.
waits["arrival"].mean()
  This is the mean of all. Leave the noisy one out.
waits["arrival"][calm].mean() + 1
  The second in which a request is answered is no wait.
waits["arrival"][~calm].mean()
  This is the noisy tenant.

fair = waits["fair"][calm].mean()
pd.Series(waits["fair"])[calm].mean()
np.sum(waits["fair"] * calm) / calm.sum()
  {value:g} s is not their mean wait by start tags.
waits["no clock"][calm].mean()
  A tenant that comes late starts at the tag that is being served, not at 0: it has saved nothing
  up.
waits["priority"][calm].mean()
  This lets the quiet tenants go first. Their own requests queue by tags, too.
waits["fair"].mean()
  This is the mean of all. Leave the noisy one out.
waits["fair"][calm].mean() + 1
  The second in which a request is answered is no wait.

everybody = waits["fair"].mean()
waits["arrival"].mean()
np.average(waits["fair"])
  {value:g} s is not the mean wait of all requests by start tags.
waits["fair"][~calm].mean()
  This is the noisy tenant alone.
(waits["fair"][calm].mean() + waits["fair"][~calm].mean()) / 2
  Each request counts once: the noisy tenant has more of them.
""",
    ),
    prediction=Prediction(
        "guess_5",
        ("yes", "no"),
        "'yes' if everybody < waits['arrival'].mean() - 1e-6 else 'no'",
        "Somebody is always served, and all requests take a second: the sum of the waits stays.",
    ),
    shows="The quiet tenants wait {fair:.1f} s instead of {by_arrival:.1f}. The mean of all stays "
    "{everybody:.1f}: fairness moves waits, it removes none.",
    hints=(
        "Somebody is always waiting here: by arrival, row n (from 0) begins at second n.",
        "A tag is max(tag in service, end of the tenant's last tag); that end is its tag + 1.",
        "The mean over all rows of the fair order.",
    ),
    helps=("by_arrival", "fair", "everybody"),
)

q6 = exercise.asked(
    6,
    "`strong`, `spent`, `unrouted` and `closed`, four numbers",
    setup=f"""{_FROM}CHEAP, STRONG, chosen, cost, price
said = requests["said_cheap"], requests["said_strong"]
true = requests["true_cheap"], requests["true_strong"]
routed, perfect = chosen(requests, *said), chosen(requests, *true)
flat = chosen(requests, *(one.mean() for one in said))
none, dear = np.zeros(400, bool), price(requests["tokens"], STRONG)
paid = np.where(routed, dear, price(requests["tokens"], CHEAP))
lost = requests["mistake"] * (1 - np.where(routed, true[1], true[0]))
""",
    parts=parts(
        """
strong = routed.mean()
np.count_nonzero(routed) / len(requests)
pd.Series(routed).sum() / 400
  {value:g} is not the share for which the better chance is worth more than the difference of the
  prices.
perfect.mean()
  These are the true chances. A router has its estimates.
flat.mean()
  This takes the mean chances for every request.
(said[1] > said[0]).mean()
  The strong model is nearly always better. Is it worth its price?
routed.sum()
  Give a share.
100 * routed.mean()
  Give a share, not per cent.
((said[1] - said[0]) * requests["mistake"] > dear).mean()
  The cheap model costs something, too: compare the difference.

spent = cost(requests, routed)
1000 * (paid + lost).mean()
cost(requests, pd.Series(routed))
  {value:g} dollars are not prices and expected mistakes of 1,000 requests, by the true chances.
cost(requests.assign(true_cheap=said[0], true_strong=said[1]), routed)
  This is what the router believes. What happens follows the true chances.
cost(requests, routed) / 1000
  This is one request.
1000 * paid.mean()
  These are the models. Mistakes cost, too.

unrouted = cost(requests, flat)
cost(requests, chosen(requests, said[0].mean(), said[1].mean()))
cost(requests, np.asarray(flat, bool))
  {value:g} dollars is not the cost when each request has the mean estimated chances.
cost(requests, ~none)
  This is the strong model for everything. Tenants differ in what a mistake costs.
cost(requests, none)
  This is the cheap model for everything.

closed = (unrouted - spent) / (unrouted - cost(requests, perfect))
1 - (spent - cost(requests, perfect)) / (unrouted - cost(requests, perfect))
np.divide(unrouted - spent, unrouted - cost(requests, perfect))
  {value:g} is not the share of the way from `unrouted` to a router with the true chances.
(unrouted - spent) / unrouted
  This is a share of the cost. How much of what could be saved is saved?
(spent - cost(requests, perfect)) / (unrouted - cost(requests, perfect))
  This is what is left of the gap.
(cost(requests, none) - spent) / (cost(requests, none) - cost(requests, perfect))
  This starts at the cheap model for everything: most of that way needs no router.
""",
        closed=Number(0.005),
    ),
    prediction=Prediction(
        "guess_6",
        ("half", "less"),
        "'half' if closed >= 0.5 else 'less'",
        "The price of each tenant's mistakes does most of the work.",
    ),
    shows="{strong:.0%} go to the strong model. That costs {spent:.2f} dollars per thousand "
    "requests, {unrouted:.2f} without any router: it closes {closed:.0%} of the gap.",
    hints=(
        "(said_strong − said_cheap) × mistake against price(strong) − price(cheap), row by row.",
        "The decision comes from the estimates or from their means, the cost always from the true "
        "chances: write both as functions, and change only the decision.",
        "You need three costs: decided by the means, by the estimates and by the true chances. "
        "How much lies between the first and the last, and how much of it does the second save?",
    ),
    helps=("strong", "unrouted", "closed"),
)
