"""Requests of many tenants with a difficulty that their text shows only in part, and two models.

A **bank** of texts is put together from the phrases of ``requests.toml``: a task of one of twelve
families about a thing of one of six domains, up to two sentences that make it harder or easier,
and now and then one that sounds so and changes nothing. Each phrase has four English and two
German wordings.

In a **world** the latent difficulty of a request is the family's and the sentences' (each with a
deviation of this world's own), plus what no text shows: how strict the tenant is and how messy its
attachment. A long attachment makes a task harder unless the answer stands in one place. The chance
of an acceptable answer falls with difficulty, faster for the cheap model, and each model has
families that suit it more or less.

Parts of a world are tenants, and each tenant belongs to one part. Of the families two appear only
with tenants of the validation and the test, three with those of the test. Tenants of the
validation and of the test each use one English wording that nobody else uses, and a German one
that no tenant of the training uses. Which ones depends on the seed.

Examples
--------
>>> world = simulate(1, Constants(tenants=10, requests=5))
>>> sorted(world.requests["part"].unique())
['test', 'train', 'validation']
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

WRITTEN = Path(__file__).with_name("requests.toml")
ENGLISH, GERMAN = 4, 2
#: Texts for each family, wording and domain, before repeats are left out.
EACH = 10
#: The sentence that takes away what a long attachment adds.
ONE_PLACE = "one_place"
PARTS = ("train", "validation", "test")
TRUTH = (
    *("family", "new_family", "difficulty", "p_cheap", "p_strong"),
    *("shown_cheap", "shown_strong", "tokens_out"),
)


@dataclass(frozen=True)
class Model:
    """A language model: its quality by difficulty, its prices and its speed, all invented.

    Attributes
    ----------
    level, slope : float
        Log-odds of an acceptable answer at difficulty 0, and their fall per unit of it.
    price_in, price_out : float
        Euro for a million tokens read and written.
    first_token_s, tokens_per_s : float
        Seconds to the first token, and tokens a second from then on.
    """

    level: float
    slope: float
    price_in: float
    price_out: float
    first_token_s: float
    tokens_per_s: float

    def euro(self, tokens_in: np.ndarray, tokens_out: np.ndarray) -> np.ndarray:
        """Return what answers cost, in euro."""
        return (self.price_in * tokens_in + self.price_out * tokens_out) / 1e6

    def seconds(self, tokens_out: np.ndarray) -> np.ndarray:
        """Return the mean time to the last token."""
        return self.first_token_s + tokens_out / self.tokens_per_s


CHEAP = Model(1.0, 1.3, 0.15, 0.60, 0.3, 120.0)
STRONG = Model(2.6, 0.9, 2.50, 10.0, 0.8, 45.0)


@dataclass(frozen=True)
class Constants:
    """What a world is made of.

    Attributes
    ----------
    tenants, requests : int
        Tenants, and requests of each.
    shares : tuple of float
        Of the tenants, in train and validation; the rest is the test.
    family_sd, kind_sd, skill_sd : float
        Deviations of this world: of a family's difficulty, of a sentence's effect (relative), and
        of the cheap model's log-odds in a family (the strong one's are half as large).
    tenant_sd, hidden_sd, long : float
        What no text shows: a tenant's strictness, an attachment's mess; and what one more unit of
        the logarithm of an attachment's length adds.
    error_euro, error_sd : float
        Cost of an unacceptable answer: the middle tenant's, and the log standard deviation.
    declares, german : float
        Shares of tenants that name the task of each request, and that write German mostly.
    new_wordings : bool
        Whether tenants of validation and test use wordings of their own.
    """

    tenants: int = 60
    requests: int = 100
    shares: tuple[float, float] = (0.6, 0.15)
    family_sd: float = 0.3
    kind_sd: float = 0.25
    skill_sd: float = 0.4
    tenant_sd: float = 0.5
    hidden_sd: float = 0.6
    long: float = 0.35
    error_euro: float = 0.02
    error_sd: float = 0.7
    declares: float = 0.5
    german: float = 0.25
    new_wordings: bool = True


DEFAULT = Constants()


@dataclass(frozen=True)
class World:
    """A world: what a router may see, and the truth.

    Attributes
    ----------
    tenants : DataFrame
        Index ``tenant``: ``part``, ``domain``, ``german``, ``declares``, ``error_euro``.
    requests : DataFrame
        ``tenant``, ``part``, ``text``, ``task`` (declared, or empty), ``tokens_in``, ``numbers``
        and ``code_marks`` (of text and attachment), ``error_euro``; ``cheap_ok`` and
        ``strong_ok``, the graded answers, which cost money.
    truth : DataFrame
        Same rows: ``family``, ``new_family``, ``difficulty``, ``p_cheap``, ``p_strong``,
        ``tokens_out``; ``shown_cheap`` and ``shown_strong``, the chances of whoever knows all of
        this world but the tenant's strictness and the attachment's mess.
    """

    tenants: pd.DataFrame
    requests: pd.DataFrame
    truth: pd.DataFrame

    def part(self, name: str) -> World:
        """Return the rows of one part, numbered from 0."""
        keep = (self.requests["part"] == name).to_numpy()
        rows = (frame[keep].reset_index(drop=True) for frame in (self.requests, self.truth))
        return World(self.tenants[self.tenants["part"] == name], *rows)


# The bank of texts ----------------------------------------------------------------------


@lru_cache(maxsize=1)
def written() -> dict[str, Any]:
    """Return ``requests.toml``: families, kinds and domains."""
    return tomllib.loads(WRITTEN.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def bank() -> pd.DataFrame:
    """Put the texts together: the same on every machine.

    Returns
    -------
    DataFrame
        ``text`` (no repeats), ``family``, ``domain``, ``language``, ``wording`` (number of the
        phrase), ``kinds`` (tuple of names).
    """
    words, rng, rows = written(), np.random.default_rng(20), []
    wordings = [("en", n) for n in range(ENGLISH)] + [("de", n) for n in range(GERMAN)]
    for family in words["families"]:
        for language, wording in wordings:
            for domain in words["domains"]:
                for _ in range(EACH):
                    kinds = _kinds(words["kinds"], rng)
                    thing = str(rng.choice(words["domains"][domain][language]))
                    said = _said(words, family, kinds, thing, language, wording, rng)
                    rows.append((said, family, domain, language, wording, kinds))
    names = ["text", "family", "domain", "language", "wording", "kinds"]
    return pd.DataFrame(rows, columns=names).drop_duplicates("text", ignore_index=True)


def _kinds(kinds: dict[str, Any], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw up to two sentences that count, and half of the time one that does not."""
    count = [name for name, kind in kinds.items() if kind["effect"]]
    sound = [name for name, kind in kinds.items() if not kind["effect"]]
    drawn = list(rng.choice(count, rng.choice(3, p=[0.25, 0.45, 0.30]), replace=False))
    if rng.random() < 0.5:
        drawn.insert(rng.integers(len(drawn) + 1), rng.choice(sound))
    return tuple(map(str, drawn))


def _said(words, family: str, kinds, thing: str, language: str, wording: int, rng) -> str:
    """Return the text; one in four begins with its first further sentence."""
    task = words["families"][family][language][wording].format(x=thing)
    more = [words["kinds"][kind][language][wording] for kind in kinds]
    if more and rng.random() < 0.25:
        return " ".join([more[0], task, *more[1:]])
    return " ".join([task, *more])


# A world --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What is kept for later parts, and the deviations of one world."""

    families: dict[str, list[str]]
    wordings: dict[str, dict[str, list[int]]]
    base: dict[str, float]
    effect: dict[str, float]
    skill: pd.DataFrame


def _plan(at: Constants, rng: np.random.Generator) -> _Plan:
    words = written()
    names = [str(name) for name in rng.permutation(list(words["families"]))]
    english, german = rng.permutation(ENGLISH).tolist(), rng.permutation(GERMAN).tolist()
    if at.new_wordings:
        styles = {"train": (english[2:], german[1:]), "validation": (english[1:2], german[:1])}
        styles["test"] = (english[:1], german[:1])
    else:
        styles = dict.fromkeys(PARTS, (english, german))
    skill = rng.normal(0, at.skill_sd, (len(names), 2)) * [1, 0.5]
    return _Plan(
        families={"train": names[5:], "validation": names[3:], "test": names},
        wordings={part: dict(zip(("en", "de"), own, strict=True)) for part, own in styles.items()},
        base={n: words["families"][n]["base"] + rng.normal(0, at.family_sd) for n in names},
        effect={
            name: kind["effect"] * (1 + rng.normal(0, at.kind_sd))
            for name, kind in words["kinds"].items()
        },
        skill=pd.DataFrame(skill, index=names, columns=["cheap", "strong"]),
    )


def _tenants(at: Constants, rng: np.random.Generator) -> pd.DataFrame:
    n, domains = at.tenants, list(written()["domains"])
    first, second = (round(n * share) for share in at.shares)
    part = np.repeat(PARTS, [first, second, n - first - second])
    frame = {
        "part": part,
        "domain": rng.choice(domains, n),
        "german": rng.random(n) < at.german,
        "declares": rng.random(n) < at.declares,
        "error_euro": at.error_euro * np.exp(rng.normal(0, at.error_sd, n)),
        "strict": rng.normal(0, at.tenant_sd, n),
        "long": rng.normal(0, 0.4, n),
    }
    return pd.DataFrame(frame, index=pd.Index([f"t{i:03d}" for i in range(n)], name="tenant"))


def _own_texts(tenant: Any, plan: _Plan, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the texts of one tenant: its domain, four families, one wording a language."""
    families, chosen = plan.families[tenant.part], []
    new = [f for f in families if f not in plan.families["train"]]
    # Tenants of later parts bring two families that are new with them.
    chosen = list(rng.choice(new, min(2, len(new)), replace=False)) if new else []
    rest = [f for f in families if f not in new]
    chosen += list(rng.choice(rest, 4 - len(chosen), replace=False))
    own = {code: int(rng.choice(plan.wordings[tenant.part][code])) for code in ("en", "de")}
    texts = bank()
    texts = texts[(texts["domain"] == tenant.domain) & texts["family"].isin(chosen)]
    texts = texts[texts["wording"] == texts["language"].map(own)]
    weight = np.where((texts["language"] == "de") == tenant.german, 0.85, 0.15)
    share = dict(zip(chosen, rng.dirichlet(np.full(4, 3.0)), strict=True))
    weight = weight * texts["family"].map(share).to_numpy()
    return texts.iloc[rng.choice(len(texts), n, p=weight / weight.sum())]


def _attachments(texts: pd.DataFrame, long: float, rng: np.random.Generator, sd: float) -> dict:
    """Return mess, tokens, numbers and code marks of the attachments."""
    n, family = len(texts), texts["family"]
    mess = rng.normal(0, sd, n)
    tokens = np.exp(6.4 + long + 0.25 * mess + rng.normal(0, 0.7, n))
    many = family.map({"calculate": 30, "compare": 12, "extract": 12, "query": 8}).fillna(4)
    marked = family.isin(["code", "query"]).map({True: 0.8, False: 0.06})
    return {
        "mess": mess,
        "tokens_in": np.clip(tokens, 30, 60_000).round(),
        "numbers": rng.poisson(many * np.exp(rng.normal(0, 0.5, n))),
        "code_marks": (rng.random(n) < marked).astype(int) * (1 + rng.poisson(2, n)),
    }


def _shown(texts: pd.DataFrame, more: dict, plan: _Plan, at: Constants) -> np.ndarray:
    """Return the part of the difficulty that a request shows, shape (n,)."""
    shown = texts["family"].map(plan.base).to_numpy()
    shown = shown + [sum(plan.effect[kind] for kind in kinds) for kinds in texts["kinds"]]
    spread = np.array([ONE_PLACE not in kinds for kinds in texts["kinds"]])
    return shown + at.long * spread * (np.log(more["tokens_in"]) - 6.4)


def _chance(model: Model, hard: np.ndarray, skill: np.ndarray, sd: float = 0.0) -> np.ndarray:
    """Return the chance of an acceptable answer, or its mean where difficulty varies by ``sd``."""
    at, weight = np.polynomial.hermite_e.hermegauss(9)
    return expit(model.level - model.slope * (hard[:, None] + sd * at) + skill[:, None]) @ (
        weight / weight.sum()
    )


def simulate(seed: int, constants: Constants = DEFAULT) -> World:
    """Simulate the requests of a world's tenants.

    Parameters
    ----------
    seed : int
    constants : Constants

    Returns
    -------
    World

    Raises
    ------
    ValueError
        If the tenants are too few for three parts, or there are no requests.
    """
    at, rng = constants, np.random.default_rng([20, seed])
    if at.tenants < 8 or at.requests < 1:
        raise ValueError(
            f"{at.tenants} tenants with {at.requests} requests: at least 8 with 1 are needed, so "
            "that train, validation and test each have tenants of their own."
        )
    plan, tenants, parts = _plan(at, rng), _tenants(at, rng), []
    for tenant in tenants.itertuples():
        texts = _own_texts(tenant, plan, at.requests, rng)
        more = _attachments(texts, tenant.long, rng, at.hidden_sd)
        parts.append(_rows(tenant, texts, more, plan, at, rng))
    made = pd.concat(parts, ignore_index=True)
    known = tenants.drop(columns=["strict", "long"])
    return World(known, made.drop(columns=[*TRUTH]), made[[*TRUTH]])


def _rows(tenant, texts, more, plan: _Plan, at: Constants, rng) -> pd.DataFrame:
    """Return requests and truth of one tenant."""
    n, words = len(texts), texts["text"].str.split().str.len().to_numpy()
    family, shown = texts["family"].to_numpy(), _shown(texts, more, plan, at)
    hard, hidden = shown + tenant.strict + more["mess"], np.hypot(at.tenant_sd, at.hidden_sd)
    skills = plan.skill.loc[family].to_numpy().T
    cheap, strong = map(_chance, (CHEAP, STRONG), (hard, hard), skills)
    seen = [_chance(m, shown, own, hidden) for m, own in zip((CHEAP, STRONG), skills, strict=True)]
    return pd.DataFrame(
        {"tenant": tenant.Index, "part": tenant.part, "text": texts["text"].to_numpy()}
        | {"task": family if tenant.declares else "", "error_euro": tenant.error_euro}
        | {name: more[name] for name in ("numbers", "code_marks")}
        | {"tokens_in": more["tokens_in"] + np.ceil(1.4 * words)}
        | {"cheap_ok": rng.random(n) < cheap, "strong_ok": rng.random(n) < strong}
        | {"family": family, "new_family": ~np.isin(family, plan.families["train"])}
        | {"difficulty": hard, "p_cheap": cheap, "p_strong": strong}
        | {"shown_cheap": seen[0], "shown_strong": seen[1]}
        | {"tokens_out": np.clip(np.exp(5.5 + rng.normal(0, 0.7, n)), 5, 8_000).round()}
    )
