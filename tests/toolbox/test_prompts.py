"""A prompt registry: versions, variables, and traffic that is split by user."""

from __future__ import annotations

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
