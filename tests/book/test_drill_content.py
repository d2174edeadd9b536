"""The prompts of the drill: complete, with evidence in each level and sums that add up."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter

import pytest

from casebook.book import cases, drill, drill_prompts
from casebook.book.drill_prompts import number, order
from casebook.project import require_checkout

ROOT = require_checkout()
INDEX = drill_prompts.read_index(ROOT)
PROMPTS = drill_prompts.read_prompts(ROOT, INDEX)
CHAPTERS = drill_prompts.chapters(INDEX)

#: Chapters and capstones that have no prompt yet. It may only shrink.
WITHOUT_PROMPT: set[str] = set()


def test_each_chapter_and_capstone_has_a_prompt_or_is_listed_as_without():
    assert len(CHAPTERS) == 21 + 4
    assert set(CHAPTERS) - set(PROMPTS) == WITHOUT_PROMPT


def test_the_twelve_common_prompts_are_there_once_each():
    numbers = Counter(p["source"] for p in PROMPTS.values() if "source" in p)
    assert numbers == Counter(range(1, 13))


def test_all_three_formats_occur_more_than_once():
    formats = Counter(prompt["format"] for prompt in PROMPTS.values())
    assert set(formats) == set(drill_prompts.FORMATS)
    assert min(formats.values()) >= 5


def test_the_cadence_adds_up_to_25_minutes_with_time_to_discuss():
    assert sum(step["minutes"] for step in INDEX["cadence"]) == 25
    assert INDEX["cadence"][-1]["id"] == "discuss"
    assert INDEX["cadence"][-1]["minutes"] >= 3


def test_each_step_but_none_twice_belongs_to_a_dimension():
    steps = [step for dimension in INDEX["dimensions"] for step in dimension["steps"]]
    assert sorted(steps) == sorted(step["id"] for step in INDEX["cadence"])


@pytest.mark.parametrize("stem", PROMPTS)
def test_a_prompt_has_no_fault(stem):
    assert drill_prompts.faults(PROMPTS[stem], INDEX) == []


def test_no_level_stands_in_two_prompts():
    levels = Counter(
        level for p in PROMPTS.values() for five in p["rubric"].values() for level in five
    )
    assert [level for level, count in levels.items() if count > 1] == []


# Planted faults: each check finds its own.


def _change(path: str, value):
    def apply(prompt: dict) -> None:
        *way, last = path.split("/")
        for key in way:
            prompt = prompt[int(key) if key.isdigit() else key]
        key = int(last) if last.isdigit() else last
        if value is None:
            del prompt[key]
        else:
            prompt[key] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("rejects", None, "'rejects' is a required property"),
        ("rejects/because", "No.", "is too short"),
        ("rejects/step", "nowhere", "is no step"),
        ("format", "chat", "is not one of"),
        ("steps/discuss", None, "'discuss' is a required property"),
        ("steps/model/answer", "A model.", "is too short"),
        ("facts", [["Asked?", "Answered."]], "is too short"),
        ("assumes", ["One assumption is stated here."], "is too short"),
        ("notes", "something else", "Additional properties"),
        ("rubric/data", None, "'data' is a required property"),
        ("rubric/data/3", None, "is too short"),
        (
            "rubric/model/2",
            "Gives a strong baseline and a clear path to production.",
            "judges (clear, strong)",
        ),
        (
            "rubric/model/2",
            "Impressive baseline with a path to production.",
            "does not begin with something observable",
        ),
        ("rubric/model/2", "Names a baseline.", "fewer than six words"),
        (
            "rubric/model/3",
            "Computes the size of the index (512 MB) and what follows.",
            "write (such as 512 MB)",
        ),
        ("arithmetic/0/1", "4,300", "is 4200, not 4,300"),
        ("arithmetic/0/0", "20 * calls", "is not a sum of numbers"),
        ("arithmetic/0/0", "20 /", "cannot be computed"),
        ("arithmetic/0", ["1 + 1", "2.00", "things"], "is stated nowhere"),
    ],
)
def test_gate_planted_fault_of_a_prompt(path, value, message):
    prompt = copy.deepcopy(PROMPTS["07_subscription_churn"])
    _change(path, value)(prompt)
    found = drill_prompts.faults(prompt, INDEX)
    assert any(message in fault for fault in found), found


def test_gate_the_same_level_twice_a_thin_answer_and_top_levels_without_a_number():
    prompt = copy.deepcopy(PROMPTS["07_subscription_churn"])
    prompt["rubric"]["data"][1] = prompt["rubric"]["data"][0]
    assert "non-unique" in drill_prompts.faults(prompt, INDEX)[0]

    prompt = copy.deepcopy(PROMPTS["07_subscription_churn"])
    for step in prompt["steps"].values():
        step["answer"] = " ".join(step["answer"].split()[:20])
    assert any("is a sketch" in fault for fault in drill_prompts.faults(prompt, INDEX))

    prompt = copy.deepcopy(PROMPTS["07_subscription_churn"])
    for levels in prompt["rubric"].values():
        levels[-1] = re.sub(r"\d", "", levels[-1])
    assert any("name a number" in fault for fault in drill_prompts.faults(prompt, INDEX))


def test_a_file_with_a_fault_or_an_unknown_name_stops_the_build(tmp_path):
    folder = tmp_path / drill_prompts.FOLDER
    folder.mkdir(parents=True)
    (folder / "99_unknown.yml").write_text("title: Something\n")
    with pytest.raises(ValueError, match=r"99_unknown\.yml: there is no chapter(?s:.*)required"):
        drill_prompts.read_prompts(tmp_path, INDEX)


# Arithmetic


def test_sums_are_computed_and_nothing_else_is():
    assert drill_prompts.evaluate("2 * (3 + 4) ** 2 / sqrt(49) - -1") == pytest.approx(15)
    for other in ("__import__('os')", "abs(1)", "x", "1 < 2", "'a' * 9", "1 / 0", "[1]"):
        with pytest.raises(ValueError):
            drill_prompts.evaluate(other)


def test_a_stated_number_is_compared_as_it_is_rounded():
    assert drill_prompts.agrees("5 / 7", "0.714") == (True, False)
    assert drill_prompts.agrees("5 / 7", "0.7143") == (True, False)
    assert drill_prompts.agrees("5 / 7", "0.715") == (False, False)
    assert drill_prompts.agrees("20 * 10 * 21", "4,200") == (True, True)


def test_a_sum_reads_like_a_sum():
    assert drill._sum("3 * 50000000 / 86400", "1,736", "a second") == (
        "3 × 50,000,000 / 86,400 ≈ 1,736 a second"
    )
    assert drill._sum("16 * 0.0005 ** 2 - 1", "-1", "x").startswith("16 × 0.0005 ^ 2 − 1 ≈ -1")


# The draw

NAMES = list(CHAPTERS)


def spread(order) -> float:
    """Return the largest excess of a name among the first draws, in standard errors."""
    draws = 4_000
    first = Counter(order(f"seed {i}", NAMES)[0] for i in range(draws))
    share = 1 / len(NAMES)
    error = (draws * share * (1 - share)) ** 0.5
    return max(abs(first[name] - draws * share) / error for name in NAMES)


def test_the_number_of_a_text_is_pinned():
    assert [number(text) for text in ("", "a", "round-3/07_subscription_churn", "☂")] == [
        2625274932,
        2670119670,
        436148819,
        4107956455,
    ]


def test_a_seed_orders_all_prompts_and_only_the_seed_does():
    once = order("round-3", NAMES)
    assert sorted(once) == sorted(NAMES)
    assert once == order(" round-3 ", NAMES[::-1])
    assert once != order("round-4", NAMES)


def test_a_new_prompt_leaves_the_order_of_the_others():
    fewer = [name for name in NAMES if name != "12_card_fraud"]
    assert [n for n in order("x", NAMES) if n in fewer] == order("x", fewer)


def test_every_prompt_is_first_about_equally_often():
    assert spread(order) < 4
    assert spread(lambda seed, names: sorted(names)) > 100
    assert spread(lambda seed, names: sorted(names, key=lambda n: number(seed) + len(n))) > 9


# The plan and the page


def test_the_plan_has_21_mocks_in_three_weeks_without_a_repeat_but_the_last():
    rows = drill.plan_rows(INDEX, list(PROMPTS))
    assert [row["mock"] for row in rows] == list(range(1, 22))
    assert list(Counter(row["round"] for row in rows).values()) == [7, 7, 7]
    prompts = [row["prompt"] for row in rows[:-1]]
    assert len(set(prompts)) == 20
    assert rows[-1]["prompt"] is None
    assert {PROMPTS[stem]["format"] for stem in prompts} == set(drill_prompts.FORMATS)
    for row in rows:
        if "seed" in row:
            assert order(row["seed"], list(PROMPTS))[row["draw"] - 1] == row["prompt"]


@pytest.mark.parametrize("stem", ["07_subscription_churn", "99_unknown"])
def test_gate_a_plan_with_a_repeat_or_an_unknown_prompt_is_refused(stem):
    index = copy.deepcopy(INDEX)
    index["plan"][1]["mocks"][0] = stem
    with pytest.raises(ValueError, match=f"plan: {stem}"):
        drill.plan_rows(index, list(PROMPTS))


def test_a_prompt_links_its_chapter_only_when_there_is_one():
    stem = "07_subscription_churn"
    linked = drill.prompt_html(stem, PROMPTS[stem], INDEX, "../chapters/x.html")
    plain = drill.prompt_html(stem, PROMPTS[stem], INDEX, None)
    assert '<a href="../chapters/x.html">chapter 07, Whom to call</a>' in linked
    assert "<a " not in plain
    assert "chapter 07, Whom to call (in preparation)" in plain
    assert "in preparation" not in linked


def test_texts_are_escaped_and_the_data_cannot_end_their_element():
    prompt = {**PROMPTS["07_subscription_churn"], "title": "</script><b>&"}
    page = drill.prompt_html("07_subscription_churn", prompt, INDEX, None)
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in page
    places = drill.Places({"07_subscription_churn": None})
    data = drill._data(INDEX, {"07_subscription_churn": prompt}, places)
    body = data.removeprefix('<script type="application/json" id="drill-data">')
    assert body.count("</script>") == 1
    assert json.loads(body.removesuffix("</script>"))["prompts"][0]["title"] == "</script><b>&"


# Which cases are in the book

IDEAS = cases.ideas(ROOT)


def places(*there: str) -> drill.Places:
    """Return where the cases are in a book that holds the given chapters."""
    addresses = {stem: f"../chapters/{stem}.html" if stem in there else None for stem in PROMPTS}
    return drill.Places(addresses, cases.nearest(IDEAS, there))


def prompts_of(planted: drill.Places) -> dict[str, dict]:
    data = drill._data(INDEX, PROMPTS, planted)
    content = data.removeprefix('<script type="application/json" id="drill-data">')
    listed = json.loads(content.removesuffix("</script>"))["prompts"]
    return {prompt["id"]: prompt for prompt in listed}


def test_a_prompt_whose_chapter_is_not_there_names_the_nearest_that_is():
    planted = prompts_of(places("12_card_fraud", "16_support_rag_chatbot"))
    assert len(planted) == 25
    assert planted["12_card_fraud"]["nearest"] is None
    assert planted["12_card_fraud"]["address"] == "../chapters/12_card_fraud.html"
    assert planted["19_analytics_chatbot"]["address"] is None
    assert planted["19_analytics_chatbot"]["nearest"] == {
        "chapter": "chapter 16, Answers with sources, in many languages",
        "address": "../chapters/16_support_rag_chatbot.html",
    }
    joined = prompts_of(places("12_card_fraud", "19_analytics_chatbot"))["19_analytics_chatbot"]
    assert (joined["address"], joined["nearest"]) == ("../chapters/19_analytics_chatbot.html", None)


def test_the_page_counts_the_prompts_with_a_case():
    assert drill._count(places("12_card_fraud")).startswith(
        "<p>1 of the 25 prompts has its case in the book; the other cases are in preparation, and "
    )
    assert "2 of the 25 prompts have their case" in drill._count(
        places("12_card_fraud", "01_demand_forecasting")
    )
    assert "names the nearest" not in drill._count(places())
    assert drill._count(places(*PROMPTS)) == (
        "<p>Each of the 25 prompts has its case in the book.</p>"
    )
