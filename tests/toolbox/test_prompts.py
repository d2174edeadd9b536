"""A prompt registry: versions, variables, and traffic that is split by user."""

from __future__ import annotations

import tracemalloc

import pytest

from casebook.serving import api_keys, prompts
from casebook.serving.grouped import Grouped, Sqlite
from casebook.serving.refusals import Refusal


@pytest.fixture
def do():
    """Run an operation in a new store."""
    store = Grouped(Sqlite(":memory:"), api_keys.SCHEMA + prompts.SCHEMA)
    yield lambda operation, *given: store.submit(operation, *given).result()
    store.close()


def test_a_version_stays_and_a_prompt_has_one_owner(do):
    before = do(api_keys.revision)
    for number, text in enumerate(("One {{x}}", "Two {{x}}"), 1):
        assert do(prompts.add, "acme", "help", prompts.Prompt(user=text), 0.0) == number
    found = do(prompts.fetch, "acme", "help")
    assert [one.user for one in found[0].values()] == ["One {{x}}", "Two {{x}}"]
    assert prompts.chosen(found, "help", 1, "")[1].user == "One {{x}}"
    assert prompts.chosen(found, "help", None, "")[0] == 2, "the newest without shares"
    assert do(prompts.fetch, "globex", "help") == ({}, {}) and do(prompts.names, "globex") == {}
    assert do(api_keys.revision) == before + 2, "other processes see the change"
    with pytest.raises(Refusal, match="no prompt 'help' of version 3"):
        prompts.chosen(found, "help", 3, "")


def test_a_request_reads_the_version_that_it_wants_and_no_other(do):
    for text in ("One", "Two"):
        do(prompts.add, "acme", "help", prompts.Prompt(user=text), 0.0)
    spoilt = "update prompts set body = 'nobody reads this' where version = 1"
    do(lambda db: db.execute(spoilt).rowcount)
    found = do(prompts.outline, "acme", "help")
    assert found == (2, {}, {}) and do(prompts.outline, "globex", "help") == (0, {}, {})
    assert prompts.number_of(found, "help", None, "") == 2
    assert do(prompts.version, "acme", "help", 2).user == "Two"
    for tenant, number in (("globex", 2), ("acme", 3)):
        with pytest.raises(Refusal, match=f"no prompt 'help' of version {number}") as refused:
            do(prompts.version, tenant, "help", number)
        assert refused.value.status == 404
    do(prompts.split, "acme", "help", {1: 0.5, 2: 0.5})
    found = do(prompts.outline, "acme", "help")
    drawn = [prompts.number_of(found, "help", None, f"user {i}") for i in range(200)]
    assert {*drawn} == {1, 2}
    for number in (0, 3, -1):
        with pytest.raises(Refusal, match="no prompt 'help'"):
            prompts.number_of(found, "help", number, "")


def test_traffic_is_split_by_user_as_it_was_told(do):
    for text in ("One", "Two"):
        do(prompts.add, "acme", "help", prompts.Prompt(user=text), 0.0)
    do(prompts.split, "acme", "help", {1: 0.9, 2: 0.1})
    found = do(prompts.fetch, "acme", "help")
    drawn = [prompts.chosen(found, "help", None, f"user {i}")[0] for i in range(2_000)]
    assert drawn == [prompts.chosen(found, "help", None, f"user {i}")[0] for i in range(2_000)]
    assert 0.07 < drawn.count(2) / 2_000 < 0.13
    for shares, why in (({1: 0.9, 3: 0.1}, "no version 3"), ({1: 0.9, 2: 0.3}, "sum to 1")):
        with pytest.raises(ValueError, match=why):
            do(prompts.split, "acme", "help", shares)
    assert do(prompts.fetch, "acme", "help") == found, "the old shares hold"


def test_variables_that_are_missing_or_unknown_are_named():
    prompt = prompts.Prompt(system="Be {{how}}.", user="Help {{name}}.")
    assert prompts.render(prompt, {"how": "kind", "name": "{{how}}"})[1] == (
        "user",
        "Help {{how}}.",
    )
    with pytest.raises(Refusal, match="needs how"):
        prompts.render(prompt, {"name": "Ada"})
    with pytest.raises(Refusal, match="knows no age"):
        prompts.render(prompt, {"how": "kind", "name": "Ada", "age": "7"})


def test_a_variable_that_stands_often_is_not_filled_in_beyond_a_body():
    prompt = prompts.Prompt(user="{{a}}" * 4_000)
    assert len(prompts.render(prompt, {"a": "x" * 200})[0][1]) == 800_000
    tracemalloc.start()
    with pytest.raises(Refusal, match="240,020,000 characters") as refused:
        prompts.render(prompt, {"a": "x" * 60_000})
    assert refused.value.status == 413 and tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_versions_and_prompts_have_a_bound(do, monkeypatch):
    monkeypatch.setattr(prompts, "VERSIONS", 3)
    monkeypatch.setattr(prompts, "NAMES", 2)
    for number in (1, 2, 3):
        assert do(prompts.add, "acme", "help", prompts.Prompt(user="x"), 0.0) == number
    with pytest.raises(Refusal, match="has 3 versions") as refused:
        do(prompts.add, "acme", "help", prompts.Prompt(user="x"), 0.0)
    assert refused.value.status == 409
    monkeypatch.setattr(prompts, "KEPT", 30_000)
    assert do(prompts.add, "acme", "long", prompts.Prompt(user="x" * 19_000), 0.0) == 1
    with pytest.raises(Refusal, match="Go on under another name"):
        do(prompts.add, "acme", "long", prompts.Prompt(user="x" * 19_000), 0.0)
    with pytest.raises(Refusal, match="There are 2 prompts already"):
        do(prompts.add, "acme", "third", prompts.Prompt(user="x"), 0.0)
    assert do(prompts.add, "globex", "third", prompts.Prompt(user="x"), 0.0) == 1
    assert do(prompts.names, "acme") == {"help": 3, "long": 1}


def test_nothing_is_shared_between_versions_that_are_not_there(do):
    for shares in ({}, {1: 1.0}):
        with pytest.raises(Refusal, match="no prompt 'help'") as refused:
            do(prompts.split, "acme", "help", shares)
        assert refused.value.status == 404
