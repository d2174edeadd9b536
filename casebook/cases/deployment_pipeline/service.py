"""The service: one pod. It says when it has started, when it is ready and whether it lives.

``/startup`` waits for a slow load, ``/ready`` says whether to send requests, ``/live`` whether to
restart. ``POST /score`` decides one payment: the model within two seconds, else the rules; each
answer names its version. ``POST /swap`` lets another model serve, without a pause; it and
``/drain`` are not on the port of the customers.
``python -m casebook.cases.deployment_pipeline.service --help`` serves, or makes a smoke test.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casebook.cases.deployment_pipeline import steps
from casebook.serving.app import Call, Problem, bare_app, json_object, serve_calls
from casebook.serving.breaker import Answer, Breaker
from casebook.serving.load import Server, crashing, slow
from casebook.serving.rollout import wait_ready
from casebook.serving.router import serve_both
from casebook.serving.swap import Swap

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST = 20_000
#: Milliseconds for the model, after which the rules answer, and calls of it at the same time.
BUDGET_MS, THREADS = 2_000.0, 16
#: Upper ends of the latency's classes, in milliseconds.
CLASSES = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_000, math.inf)
TEXTS, LONGEST = ("payment", "card"), 64
Scorer = Callable[[Mapping[str, Any]], float]


# What is asked -----------------------------------------------------------------------------------


def payment_of(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a payment if it keeps the contract; the training's limits hold here too.

    Parameters
    ----------
    given : mapping
        ``payment`` and ``card`` (texts), and each of :data:`steps.FEATURES` as a number.

    Raises
    ------
    Problem
        422 with each field that is wrong and what it should be.
    """
    wrong = []
    for name in TEXTS:
        value = given.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
            wrong.append(f"{name} is {_told(given, name)}, not a text of 1 to {LONGEST} characters")
    for name, (least, most) in steps.LIMITS.items():
        value = given.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and least <= value <= most):
            wrong.append(f"{name} is {_told(given, name)}, not a number from {least:g} to {most:g}")
    if extra := sorted(str(name)[:20] for name in {*given} - {*TEXTS, *steps.LIMITS}):
        wrong.append(f"{extra[:5]} is no field")
    if wrong:
        raise Problem(422, "wrong form", "; ".join(wrong[:8]) + ".", "Correct what is named.")
    return given


def _told(given: Mapping[str, Any], name: str) -> str:
    return repr(given[name])[:30] if name in given else "missing"


def body_of(row: Mapping[str, Any], payment: str, card: str) -> dict[str, Any]:
    """Return the request for a row of payments."""
    return {"payment": payment, "card": card, **{n: float(row[n]) for n in steps.FEATURES}}


# The pod -----------------------------------------------------------------------------------------


class Served:
    """A model as it serves: the name of its folder, and how one payment is scored.

    Parameters
    ----------
    version : str
    model : Model
    score : callable, optional
        In place of the model's own; a drill breaks it here.
    """

    def __init__(self, version: str, model: steps.Model, score: Scorer | None = None) -> None:
        self.version, self.model, self.score = version, model, score or model.one


def probes(new: Served, old: Served) -> str:
    """Object to a model that scores otherwise than in training."""
    return new.model.probed()


class Service:
    """One pod: loads in a thread, warms up, decides, counts.

    Parameters
    ----------
    folder : Path
        Of the model.
    load : callable, optional
        From a folder to what serves; it may take long.
    budget_ms : float
        For the model.
    """

    def __init__(
        self,
        folder: Path | str,
        load: Callable[[Path], Served] | None = None,
        budget_ms: float = BUDGET_MS,
    ) -> None:
        self.load = load or load_model
        self.breaker = Breaker(budget_ms, failures=10, window=20, cool_off=5.0, threads=THREADS)
        self.swap: Swap[Served] | None = None
        self.trouble, self.draining, self._models = "", False, Path(folder).parent
        self._lock, self._counts, self._classes = threading.Lock(), Counter(), Counter()
        self._room = threading.BoundedSemaphore(THREADS)  # a crowd waits: it is no failure
        threading.Thread(target=self._start, args=(Path(folder),), daemon=True).start()

    def _start(self, folder: Path) -> None:
        try:
            first = self.load(folder)
            if why := first.model.probed():
                raise ValueError(why)
            warm(first)
            self.swap = Swap(first, {"probes": probes})
        except Exception as error:  # whatever is wrong with it: not started, and it says why
            self.trouble = f"{type(error).__name__}: {error}"[:300]

    # Probes of the platform

    def startup(self) -> dict[str, Any]:
        """200 once a model is loaded and warm; until then the other probes are not asked."""
        if self.swap is None:
            what = self.trouble or "The model is being loaded."
            raise Problem(503, "not started", what, "Wait; after the limit, restart.")
        return {"started": True}

    def ready(self) -> dict[str, Any]:
        """200 while requests may be sent; 503 before the start and while the pod is drained."""
        self.startup()
        if self.draining:
            raise Problem(503, "draining", "The pod is being ended.", "Ask another one.")
        return {"ready": True, "version": self.swap.current.value.version}

    def live(self) -> dict[str, Any]:
        """200 unless only a restart helps: the load has failed, or every thread hangs."""
        state = self.breaker.snapshot()
        if self.trouble and self.swap is None:
            raise Problem(503, "load failed", self.trouble, "Restart it, or deploy another model.")
        if state["hung"] >= state["threads"]:
            raise Problem(503, "hung", "Every thread hangs in the model.", "Restart it.")
        return {"live": True, "breaker": state["state"]}

    def drain(self, raw: bytes = b"") -> dict[str, Any]:
        """Be no longer ready; what is asked all the same is still answered."""
        self.draining = True
        return {"draining": True}

    # Requests

    def score(self, raw: bytes) -> dict[str, Any]:
        """Decide one payment.

        Returns
        -------
        dict
            ``payment``, ``tier``, ``score`` (None if the rules decided), ``source`` (model or
            rules), ``why`` not the model, and ``version``.
        """
        begin = time.perf_counter()
        if self.swap is None:
            self.startup()
        asked = payment_of(json_object(raw))
        serving = self.swap.current.value  # once: to the end of this answer
        answer = self._ask(serving.score, asked)
        if answer.why:
            tier, source = steps.rule_for(asked), "rules"
        else:
            tier, source = str(steps.tiers([answer.value], [asked["amount"]])[0]), "model"
        ms = 1000 * (time.perf_counter() - begin)
        with self._lock:
            self._counts[serving.version, source, answer.why] += 1
            self._classes[next(end for end in CLASSES if ms <= end)] += 1
        told = {"payment": asked["payment"], "tier": tier, "score": answer.value, "source": source}
        return told | {"why": answer.why, "version": serving.version}

    def _ask(self, score: Scorer, asked: Mapping[str, Any]) -> Answer:
        """Ask the model as soon as a thread is free; the breaker learns nothing of a crowd."""
        if not self._room.acquire(timeout=self.breaker.budget_ms / 4000):
            return Answer(None, "busy")
        try:
            return self.breaker.ask(score, asked, steps.finite_probability)
        finally:
            self._room.release()

    def take(self, raw: bytes) -> dict[str, Any]:
        """Let another model serve: ``{"version": …}``, a folder beside the first model's.

        Raises
        ------
        Problem
            409 with what is wrong with it; the old one serves.
        """
        name = json_object(raw).get("version")
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise Problem(422, "wrong form", "version is no name of a folder.", "Send its name.")
        self.startup()

        def build() -> Served:
            made = self.load(self._models / name)
            warm(made)
            return made

        done = self.swap.offer(build)
        if not done.swapped:
            raise Problem(409, "refused", done.why, "The old model serves; mend the new one.")
        return {"version": self.swap.current.value.version, "seconds": done.seconds}

    def metrics(self) -> dict[str, Any]:
        """Return what was answered by version, source and reason, and how long it took."""
        with self._lock:
            counts, classes = dict(self._counts), dict(self._classes)
        rows = [
            {"version": v, "source": s, "why": w, "requests": n} for (v, s, w), n in counts.items()
        ]
        told = {
            "le_" + ("inf" if end == math.inf else f"{end}"): classes.get(end, 0) for end in CLASSES
        }
        return {"answers": rows, "latency_ms": told, "breaker": self.breaker.snapshot()}


def load_model(folder: Path) -> Served:
    """Return the model of a folder; its name is the version."""
    return Served(folder.name, steps.Model.load(folder))


def warm(served: Served, times: int = 20) -> None:
    """Score probes before anybody waits: the first scores are slow."""
    for probe in [*served.model.meta["probes"]][:times]:
        served.model.one(probe)


def pages(service: Service, public: bool = True, admin: bool = True, **more: Call) -> FastAPI:
    """Return a pod over HTTP.

    Parameters
    ----------
    service : Service
    public : bool
        ``/score``, the probes and the metrics.
    admin : bool
        ``/swap`` and ``/drain``: not on a port that customers reach.
    more : callable
        Further posts, or others in place of these.
    """
    posts = {"/score": service.score} if public else {}
    posts |= {"/swap": service.take, "/drain": service.drain} if admin else {}
    gets = {"/startup": service.startup, "/ready": service.ready, "/live": service.live}
    made = bare_app("Card payments")
    posts |= {f"/{name}": call for name, call in more.items()}
    serve_calls(made, posts, gets | {"/metrics": service.metrics}, LARGEST)
    made.state.service = service
    return made


def app(folder: str, fault: str = "", load_seconds: float = 0.0) -> FastAPI:
    """Return a pod for a drill, with all its pages and a fault that begins at ``POST /break``.

    Parameters
    ----------
    folder : str
        Of the model.
    fault : str
        One of :data:`FAULTS`.
    load_seconds : float
        How long loading takes besides.
    """
    if fault and fault not in FAULTS:
        raise ValueError(f"fault is {fault!r}: give one of {sorted(FAULTS)}, or none.")
    broken = threading.Event()

    def later(good: Callable, breaks: Callable | None) -> Callable:
        bad = breaks(good) if breaks else good
        return lambda asked: (bad if broken.is_set() else good)(asked)

    def load(where: Path) -> Served:
        time.sleep(86_400 if fault == "never ready" else load_seconds)
        served = load_model(where)
        return Served(served.version, served.model, later(served.score, FAULTS.get(fault)))

    def begin(raw: bytes) -> dict[str, Any]:
        broken.set()
        return {"broken": time.time()}

    service = Service(folder, load)
    score = later(service.score, crashing if fault == "errors" else None)
    return pages(service, score=score, **({"break": begin} if fault else {}))


#: From a good way to score to a broken one; None breaks something else.
FAULTS: Mapping[str, Callable[[Scorer], Scorer] | None] = {
    "errors": None,
    "never ready": None,
    "slow": lambda score: slow(score, 700),
    "no number": lambda score: lambda payment: math.nan,
    "shifted": lambda score: lambda payment: min(20 * score(payment), 1.0),
}


# Commands ----------------------------------------------------------------------------------------


def smoke(folder: str, url: str = "") -> list[str]:
    """Start a pod, or take the one at an address, and return what is wrong with it.

    The probes of the model are asked over HTTP and must get the training's scores; a bad request
    must be refused.
    """
    if not url:
        with Server(
            f"{__name__ if __name__ != '__main__' else _NAME}:app", {"folder": folder}
        ) as pod:
            return smoke(folder, pod.url)
    import httpx

    wait_ready(url, 300)
    wrong = []
    with httpx.Client(base_url=url, trust_env=False, timeout=5) as http:
        for i, probe in enumerate(steps.Model.load(folder).meta["probes"]):
            told = http.post("/score", json=body_of(probe, f"smoke-{i}", "smoke")).json()
            if (told.get("version"), told.get("score")) != (Path(folder).name, probe["score"]):
                wrong.append(f"probe {i}: {told} and not the score {probe['score']} of {folder}")
        reply = http.post("/score", json={"payment": "smoke", "amount": "much"})
        if reply.status_code != 422 or "amount" not in reply.json()["what"]:
            wrong.append(f"a bad request was answered {reply.status_code} {reply.text[:200]}")
    return wrong


_NAME = "casebook.cases.deployment_pipeline.service"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a model until the process is told to end, or test a pod."""
    parser = argparse.ArgumentParser(description="One pod.")
    parser.add_argument("command", choices=["serve", "smoke"])
    parser.add_argument("--model", default=os.environ.get("MODEL"), help="its folder, or MODEL")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--admin-port", type=int, default=8081, help="on 127.0.0.1 alone")
    parser.add_argument("--url", default="", help="smoke: of a pod that runs")
    given = parser.parse_args(arguments)
    if not given.model:
        parser.error("give --model or set MODEL: the folder of a model")
    if given.command == "smoke":
        wrong = smoke(given.model, given.url)
        print("\n".join(wrong) or "the pod answers as the training did")
        return int(bool(wrong))
    service = Service(given.model)
    public, admin = pages(service, admin=False), pages(service, public=False)
    at = (given.host, given.port), ("127.0.0.1", given.admin_port)
    asyncio.run(serve_both(public, at[0], admin, at[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
