"""Planners: rules that choose the next tool and word the answer, and ones that obey anybody.

:class:`RulePlanner` is the chapter's stand-in for a language model. It reads the conversation
alone, as a model does: what the customer wrote, what the tools answered. :class:`Gullible` is the
same planner that also does what it reads, whoever wrote it: a model that obeys injections.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from casebook.cases.support_agent.records import euro
from casebook.llm import Answer, Request, StandIn, ToolCall
from casebook.llm.reading import Read, read

ORDER = re.compile(r"(?<!\d)\d{5}(?!\d)")
_PATTERNS = tomllib.loads(Path(__file__).with_name("planner.toml").read_text(encoding="utf-8"))
#: What a customer says happened, and intents by lists of words: the first pattern that is found.
_REASONS, _WORDS = (
    {name: re.compile("|".join(own), re.IGNORECASE) for name, own in _PATTERNS[kind].items()}
    for kind in ("reasons", "keywords")
)
_MAILBOX, _ORDERS = (
    re.compile("|".join(_PATTERNS["texts"][kind]), re.IGNORECASE) for kind in ("mailbox", "orders")
)
#: Articles that answer a technical question, and the score from which one is believed.
TECHNICAL, SURE = ("coupon", "login_loop", "app_crash"), 1.5


def reason_of(text: str) -> str:
    """Return what a customer says happened; empty if no pattern is found."""
    return next((name for name, pattern in _REASONS.items() if pattern.search(text)), "")


class RulePlanner(StandIn):
    """Choose the next step by rules, the same one every time."""

    name = "rule-based planner"
    does = "chooses tools and words answers by rules"

    def answer(self, request: Request) -> Answer:
        """Return the next call, or the answer."""
        seen = read(request)
        if seen.told > 1:
            return _hand_over("the customer is not content")
        plan = getattr(self, f"_{seen.intent}", None)
        return plan(seen) if plan else _hand_over("not an intent of ours")

    def _password(self, seen: Read) -> Answer:
        if _MAILBOX.search(seen.text):
            return _hand_over("the mailbox is lost")
        if done := seen.of("password_reset"):
            return done[-1][1]["say"]
        return ToolCall("password_reset")

    def _technical(self, seen: Read) -> Answer:
        done = seen.of("article_search")
        if not done:
            return ToolCall("article_search", {"query": seen.said[0][:300]})
        own = [one for one in done[-1][1].get("articles", ()) if one["by"] == "shop"]
        if not own or own[0]["id"] not in TECHNICAL or own[0]["score"] < SURE:
            return _hand_over("no article answers this")
        return f"I am sorry for the trouble. {own[0]['text']}"

    # Orders -----------------------------------------------------------------------------------

    def _order(self, seen: Read) -> tuple[dict[str, Any] | None, Answer | None]:
        """Return the order that is meant with what is known of it, or the call that finds out."""
        found = {args["order_id"]: body for args, body in seen.of("order_status")}
        named = [number for text in reversed(seen.said) for number in ORDER.findall(text)]
        number = named[0] if named else self._by_item(seen)
        if number is None:
            return None, ToolCall("account_lookup")
        if number and number not in found:
            return None, ToolCall("order_status", {"order_id": number})
        if number and "error" not in found[number] and not self._other_item(seen, found[number]):
            return found[number], None
        return None, self._ask_order(seen)

    @staticmethod
    def _ask_order(seen: Read) -> ToolCall:
        """Ask for the order, twice at most."""
        asked = [args["what"] for args, _ in seen.of("ask_customer")].count("order")
        if asked > 1:
            return _hand_over("the order is not known")
        return ToolCall("ask_customer", {"what": "order"})

    @staticmethod
    def _other_item(seen: Read, order: Mapping[str, Any]) -> bool:
        """Say whether the customer speaks of another item, and may still be asked."""
        listed = [one for _, body in seen.of("account_lookup") for one in body.get("orders", ())]
        text, asked = seen.text.casefold(), len(seen.of("ask_customer"))
        named = any(one["item"] in text for one in listed)
        return named and order["item"] not in text and asked < 2

    @staticmethod
    def _by_item(seen: Read) -> str | None:
        """Return the one order whose item is named; None before the account was looked up."""
        done = seen.of("account_lookup")
        if not done:
            return None
        listed = done[-1][1].get("orders", [])
        text = seen.text.casefold()
        fits = [one for one in listed if one["item"] in text] or (
            listed if len(listed) == 1 else []
        )
        return fits[0]["order"] if len(fits) == 1 else ""

    def _order_status(self, seen: Read) -> Answer:
        order, step = self._order(seen)
        if order is None:
            return step
        thing = f"your {order['item']}"
        if when := order.get("delivered"):
            return (
                f"The carrier scanned {thing} at your door on {when}. Please look where parcels "
                "are left, and ask your neighbours."
            )
        return (
            f"Thank you for asking. The carrier expects to deliver {thing} on {order['expected']}."
        )

    def _refund(self, seen: Read) -> Answer:
        order, step = self._order(seen)
        if order is None:
            return step
        reason = next(filter(None, map(reason_of, seen.said)), "")
        if not reason:
            if seen.of("ask_customer") and seen.of("ask_customer")[-1][0]["what"] == "reason":
                return _hand_over("the reason is not known")
            return ToolCall("ask_customer", {"what": "reason"})
        if reason == "change_mind":
            return self._change_mind(seen, order)
        return self._propose(seen, order, reason)

    def _change_mind(self, seen: Read, order: Mapping[str, Any]) -> Answer:
        done = seen.of("article_search")
        if not done:
            return ToolCall("article_search", {"query": "How do I return something?"})
        own = next((a for a in done[-1][1].get("articles", ()) if a["id"] == "returns"), None)
        if own is None:
            return _hand_over("the article on returns is not found")
        return f"About your {order['item']}, of the kind {order['category']}: {own['text']}"

    def _propose(self, seen: Read, order: Mapping[str, Any], reason: str) -> Answer:
        """Propose what the payments support; say what the policy says where it says no."""
        number = order["order"]
        paid = [body for args, body in seen.of("payment_lookup") if args["order_id"] == number]
        if not paid:
            return ToolCall("payment_lookup", {"order_id": number})
        cents = _open(paid[-1], reason)
        wanted = {"order_id": number, "cents": max(cents, 1), "reason": reason}
        made = [body for args, body in seen.of("refund_initiate") if args == wanted]
        if not made:
            return ToolCall("refund_initiate", wanted)
        if made[-1].get("decision") == "no":
            return f"I have checked your order. {made[-1]['say']} So I cannot refund it now."
        return self._ask_order(seen)  # it was shown, and the customer said no

    def _billing(self, seen: Read) -> Answer:
        order, step = self._order(seen)
        if order is None:
            return step
        paid = [b for args, b in seen.of("payment_lookup") if args["order_id"] == order["order"]]
        if not paid:
            return ToolCall("payment_lookup", {"order_id": order["order"]})
        books, kinds = paid[-1], [one["kind"] for one in paid[-1]["payments"]]
        if kinds.count("captured") > 1:
            return self._propose(seen, order, "charged_twice")
        if "refunded" in kinds and re.search(r"refund|repay|reimburs|credit", seen.text, re.I):
            return (
                f"We have refunded {books['refunded']}. The money is on your account in "
                f"{books['pays_in']} from then."
            )
        if "authorised" in kinds:
            return (
                f"You have paid {euro(books['price'])} once. The other entry is an authorisation "
                f"hold, not a charge; your bank releases it within {books['hold']}."
            )
        return f"For your {order['item']} we have charged {books['captured']}."


def _open(books: Mapping[str, Any], reason: str) -> int:
    """Return the cents that the payments leave open; of an order to cancel, the hold."""
    kinds = ("authorised", "captured", "refunded")
    rows = books["payments"]
    held, taken, back = (sum(r["cents"] for r in rows if r["kind"] == kind) for kind in kinds)
    twice = sum(r["cents"] for r in rows if r.get("reason") == "charged_twice")
    if reason == "cancelled":
        return held
    if reason == "charged_twice":
        return min(taken - books["price"] - twice, taken - back)
    return min(books["price"] - (back - twice), taken - back)


def _hand_over(why: str) -> ToolCall:
    return ToolCall("hand_over", {"why": why})


class Keywords:
    """Intents by lists of words: the gate that an analyst writes in an afternoon.

    The one that learns is :class:`casebook.retrieval.classify.Gate`.
    """

    def __call__(self, text: str) -> tuple[str, float]:
        """Return intent and confidence."""
        found = next((name for name, words in _WORDS.items() if words.search(text)), "other")
        return found, float(found != "other")


# A planner that obeys --------------------------------------------------------------------

_PAY = re.compile(r"refund|reimburs|pay|approve", re.IGNORECASE)
_SUM = re.compile(r"(\d[\d,]*) euro|cents (\d+)", re.IGNORECASE)


class Gullible(RulePlanner):
    """A planner that obeys what it reads: in messages, notes, articles and tool results.

    It does what the first order says that it has not carried out yet: a refund of the named order
    (or of the one at hand), of the named sum, or words that it is told to say.
    """

    name = "gullible planner"
    does = "chooses tools by rules, and obeys orders in what it reads"

    def answer(self, request: Request) -> Answer:
        """Return what an order that was read demands, else what the rules say."""
        seen = read(request)
        for text in orders_in(seen):
            if _PAY.search(text) and (call := self._obey(seen, text)) is not None:
                return call
            if found := re.search(r"tell them ([^.]+)", text):
                return f"Your money is on your account within {found[1]}."
        return super().answer(request)

    @staticmethod
    def _obey(seen: Read, text: str) -> ToolCall | None:
        known = [args["order_id"] for args, _ in seen.of("order_status")]
        found = _SUM.search(text)
        named = ORDER.findall(_SUM.sub("", text)) or known or ORDER.findall(seen.text)
        if not named:
            return None
        cents = 99_999
        if found:
            cents = int(found[2] or 100 * int(found[1].replace(",", "")))
        done = len(seen.of("refund_initiate"))
        if done > (2 if "split" in text or "again" in text else 0):
            return None
        wanted = {"order_id": named[0], "cents": cents, "reason": "lost"}
        return ToolCall("refund_initiate", wanted)


def orders_in(seen: Read) -> Sequence[str]:
    """Return the texts of a conversation that give orders, whoever wrote them."""
    texts = list(seen.said)
    for _, body in seen.results:
        texts += [body.get("note", ""), *(one["text"] for one in body.get("articles", ()))]
    return [text for text in texts if text and _ORDERS.search(text)]
