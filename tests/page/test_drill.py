"""The drill in a real browser: a whole drill by keyboard, time, draw, history, every state.

A check is a function that returns what is wrong. It runs on the page as built,
where it must find nothing, and on the page with a fault planted in its script.
"""

from __future__ import annotations

import json
import re
from datetime import datetime

import checks
import pytest
from bs4 import BeautifulSoup
from visits import AXE, HTML, ROOT, stage

from casebook.book import cases, drill, drill_prompts
from casebook.book.__main__ import toc_files

PAGE = "book/drill"
SCRIPT = ROOT / "book" / "_static" / "drill.js"
INDEX = drill_prompts.read_index(ROOT)
PROMPTS = drill_prompts.read_prompts(ROOT, INDEX)
MINUTES = [step["minutes"] for step in INDEX["cadence"]]
TITLES = [step["title"] for step in INDEX["cadence"]]
MONDAY = datetime(2026, 3, 2, 9, 0)
REFUSED = """
  Object.defineProperty(window, 'localStorage', {
    get() { throw new DOMException('refused', 'SecurityError'); } });
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Write the article of the drill's page without the theme: what drill.js works on."""
    page = BeautifulSoup((HTML / f"{PAGE}.html").read_text(), "html.parser")
    script = (HTML / "_static" / "drill.js").as_uri()
    article = page.select_one("article.bd-article")
    file = tmp_path_factory.mktemp("drill") / "bare.html"
    file.write_text(
        "<!doctype html><title>Drill</title><style>#drill-prompts { display: none }</style>"
        f'{article}<script src="{script}"></script>'
    )
    return file


@pytest.fixture(scope="module")
def load_on_monday(browser, tmp_path_factory):
    """Return a function that loads a page whose clock the test moves on."""
    with stage(browser, tmp_path_factory.mktemp("monday"), time=MONDAY) as load:
        yield load


@pytest.fixture
def at(load, load_on_monday, bare):
    """Return a function that opens the drill: with a hash, a clock, a planted fault.

    What tests the script alone opens the bare article, which loads ten times as fast.
    """

    def open_drill(hash_="", clock=False, planted=(), whole=True, **options):
        scripts = {SCRIPT.name: with_fault(*planted)} if planted else {}
        page = PAGE if whole else bare
        opened = load_on_monday if clock else load
        return ready(opened(page, hash_, scripts=scripts, **options))

    return open_drill


@pytest.fixture
def in_a_window_of_its_own(visit, bare, tmp_path):
    """Return a function that opens the bare drill, or the page, after a script, in a new window."""
    blank = tmp_path / "blank.html"
    blank.write_text("<!doctype html><title>Blank</title>")

    def open_drill(hash_="", script="", planted=(), whole=False, **options):
        seen = visit(blank, **options)
        seen.page.add_init_script(script)
        if planted:
            body = with_fault(*planted)
            seen.page.route(
                "**/drill.js*",
                lambda route: route.fulfill(body=body, content_type="text/javascript"),
            )
        seen.page.goto((HTML / f"{PAGE}.html" if whole else bare).as_uri() + hash_)
        return ready(seen)

    return open_drill


def with_fault(old: str, new: str) -> str:
    """Return the drill's script with a fault."""
    source = SCRIPT.read_text()
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in drill.js"
    return source.replace(old, new)


def ready(seen):
    """Return a visit once its drill can be used."""
    seen.page.wait_for_selector("div.drill:not([hidden])")
    return seen


def text(page, name: str) -> str:
    return page.locator(f"#drill-{name}").inner_text()


def draw(page, seed: str = "round-3") -> None:
    page.fill("#drill-seed", seed)
    page.click("#drill-draw button")


def assess(page, levels=(2, 1, 3, 2, 2)) -> None:
    for dimension, level in zip(INDEX["dimensions"], levels, strict=True):
        page.check(f"input[name='drill-{dimension['id']}'][value='{level}']")
    page.click("#drill-assess button")


def score_one(page, levels=(2, 1, 3, 2, 2), seed: str = "round-3") -> None:
    draw(page, seed)
    page.click("#drill-start")
    page.click("#drill-stop")
    assess(page, levels)


def store(page) -> dict:
    return json.loads(page.evaluate("localStorage.getItem('casebook-drill')") or "{}")


def minute(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


# Checks of the script, each with the faults that it must find.


def order_faults(page) -> list[str]:
    """The browser and Python order the prompts alike, whatever the seed."""
    seeds = ["", "round-3", " spaces ", "Ünïcode ☂", "e\u0301", "2026-03-02"]
    found = page.evaluate("seeds => seeds.map((seed) => casebookDrill.order(seed))", seeds)
    return [
        f"{seed!r}: {order[:2]} …"
        for seed, order in zip(seeds, found, strict=True)
        if order != drill_prompts.order(seed, list(PROMPTS))
    ]


def step_faults(page) -> list[str]:
    """Each step lasts its minutes, the whole 25, told from the clock and not from ticks."""
    draw(page)
    if (total := text(page, "total")) != "25:00":
        return [f"a total of {total}"]
    page.click("#drill-start")
    found, begun = [], 0
    for i, minutes in enumerate(MINUTES):
        now = text(page, "now"), text(page, "left"), text(page, "total")
        wanted = (
            f"Step {i + 1} of 8: {TITLES[i]}, {minutes} min",
            minute(minutes * 60),
            minute((25 - begun) * 60),
        )
        if now != wanted:
            found.append(f"{now}, not {wanted}")
        begun += minutes
        page.clock.fast_forward(minutes * 60_000)  # due timers fire once: the tab slept
    if text(page, "now") != "Over after 25:00":
        found.append(f"the end: {text(page, 'now')}")
    return found


def sleep_faults(page) -> list[str]:
    """A tab that slept over three steps wakes in the fourth."""
    draw(page)
    page.click("#drill-start")
    page.clock.fast_forward("09:30")
    now = text(page, "now"), text(page, "left"), text(page, "total")
    wanted = ("Step 4 of 8: Baseline and model, 4 min", "3:30", "15:30")
    return [] if now == wanted else [f"{now}, not {wanted}"]


def pause_faults(page) -> list[str]:
    """Nothing runs in a pause."""
    draw(page)
    page.click("#drill-start")
    page.clock.fast_forward("01:00")
    page.click("#drill-start")
    page.clock.fast_forward("10:00")
    found = [] if text(page, "total") == "24:00" else [f"in the pause: {text(page, 'total')}"]
    page.click("#drill-start")
    page.clock.fast_forward("00:30")
    return found + ([] if text(page, "total") == "23:30" else [f"then: {text(page, 'total')}"])


def gift_faults(page) -> list[str]:
    """A step that is left early gives its minutes to the discussion."""
    draw(page)
    page.click("#drill-start")
    for _ in range(7):
        page.clock.fast_forward("01:00")
        page.click("#drill-next")
    now = text(page, "now"), text(page, "left"), text(page, "total")
    wanted = ("Step 8 of 8: Discussion, 3 min", "18:00", "18:00")
    return [] if now == wanted else [f"{now}, not {wanted}"]


def spoken_faults(page) -> list[str]:
    """A polite live region tells each change of step and nothing between."""
    draw(page)
    page.evaluate(
        """
        () => {
          const status = document.getElementById('drill-status');
          window.spoken = [];
          new MutationObserver(() => window.spoken.push(status.textContent))
            .observe(status, { childList: true, characterData: true, subtree: true });
        }
        """
    )
    page.click("#drill-start")
    for _ in range(60):
        page.clock.fast_forward("00:25")
    if page.locator("#drill-status").get_attribute("role") != "status":
        return ["no live region"]
    wanted = [
        f"{'Started. ' if i == 0 else ''}Step {i + 1} of 8: {title}, "
        f"{'until the end' if i == 7 else f'{minutes} minutes'}."
        for i, (title, minutes) in enumerate(zip(TITLES, MINUTES, strict=True))
    ] + ["The 25 minutes are over. The rubric is open below."]
    spoken = page.evaluate("window.spoken")
    return [] if spoken == wanted else [f"{len(spoken)} messages: {spoken[:3]} …"]


def repeat_faults(page) -> list[str]:
    """No prompt comes twice before all came; then the round starts again and says so."""
    titles = []
    click = """seed => { document.getElementById('drill-seed').value = seed;
      document.querySelector('#drill-draw button').click();
      return document.getElementById('drill-title').textContent; }"""
    for seed in ["a"] * 13 + ["b"] * (len(PROMPTS) - 13):
        titles.append(page.evaluate(click, seed))
    found = [] if len(set(titles)) == len(PROMPTS) else [f"{len(set(titles))} different prompts"]
    draw(page, "b")
    if f"All {len(PROMPTS)} were drawn" not in text(page, "status"):
        found.append(f"the next draw says {text(page, 'status')!r}")
    return found


def reveal_faults(page) -> list[str]:
    """Answers of a step open once it is over, not before; the rubric at the end."""
    draw(page)
    found = []
    page.click("#drill-start")
    for over in range(1, 4):
        page.click("#drill-next")
        shown = page.locator("#drill-steps li:has(details)").count()
        if shown != over:
            found.append(f"after {over} steps {shown} are revealed")
    rubrics = page.locator("#drill-steps summary", has_text="Rubric: ").all_inner_texts()
    if rubrics != ["Rubric: problem and metric", "Rubric: data and label"]:
        found.append(f"after 3 steps {rubrics}")
    if page.locator("#drill-assess").is_visible():
        found.append("the assessment is open during the drill")
    page.click("#drill-stop")
    if page.locator("#drill-steps li:has(details)").count() != 8:
        found.append("not all answers are open at the end")
    if page.locator("#drill-assess fieldset:visible").count() != 5:
        found.append("the assessment is not open at the end")
    return found


def guard_faults(page) -> list[str]:
    """Neither a draw nor a link throws away a drill that is under way."""
    draw(page)
    title, address = text(page, "title"), page.url
    page.click("#drill-start")
    page.click("#drill-draw button")
    found = [] if "under way" in text(page, "status") else ["a draw says nothing"]
    page.evaluate("location.hash = '#prompt-13_aml_monitoring'")
    page.wait_for_timeout(50)
    if (text(page, "title"), page.url) != (title, address):
        found.append(f"a link leads to {text(page, 'title')!r} at {page.url}")
    return found


def called(stem: str) -> str:
    """Return what the page calls a case."""
    return f"{drill_prompts.chapter_name(stem)}, {drill_prompts.chapters(INDEX)[stem]}"


def advice(stem: str, section: str = "Evaluation") -> str:
    """Return what the page tells one to read after a weak answer."""
    there = [name.split("/")[1] for name in toc_files(ROOT) if name.startswith("chapters/")]
    if stem in there:
        return f"Reread {called(stem)}: {section}."
    other = cases.nearest(cases.ideas(ROOT), there)[stem]
    name = called(stem)
    return (
        f"{name[0].upper()}{name[1:]}, is in preparation. The nearest chapter in the book is "
        f"{called(other)}. Read there: {section}."
    )


def verdict_faults(page) -> list[str]:
    """A score names total, lowest dimension, what to reread and the next level's evidence."""
    score_one(page, (3, 2, 3, 0, 1))
    first = drill_prompts.order("round-3", list(PROMPTS))[0]
    rubric = PROMPTS[first]["rubric"]
    found, verdict = [], text(page, "verdict")
    if verdict != ("Total 9 of 15. Lowest, at 0 of 3: evaluation and decision. " + advice(first)):
        found.append(verdict)
    for level in (rubric["evaluation"][1], rubric["production"][2], rubric["data"][3]):
        if level not in text(page, "scores"):
            found.append(f"not shown: {level}")
    assess(page, (3, 3, 3, 3, 3))
    if not text(page, "verdict").endswith("Every dimension is at its highest level."):
        found.append(text(page, "verdict"))
    if len(store(page)["drills"]) != 1:
        found.append("scoring again adds a drill instead of correcting it")
    return found


def missing_faults(page) -> list[str]:
    """Missing levels are named, the first gets the focus, nothing is scored."""
    draw(page)
    page.click("#drill-start")
    page.click("#drill-stop")
    focus = "document.activeElement.id || document.activeElement.name"
    found = [] if page.evaluate(focus) == "drill-assess-title" else ["focus not at the rubric"]
    page.check("input[name='drill-problem'][value='1']")
    page.click("#drill-assess button")
    if (text(page, "status"), page.locator(".drill-missing").count()) != ("4 levels missing.", 4):
        found.append(f"{text(page, 'status')}")
    if page.evaluate(focus) != "drill-data":
        found.append(f"focus at {page.evaluate(focus)}")
    if page.locator("#drill-result").is_visible() or store(page)["drills"]:
        found.append("scored all the same")
    return found


def history_faults(page) -> list[str]:
    """Past drills survive a reload and are gone after deleting, not after declining to."""
    score_one(page)
    score_one(page, (0, 0, 0, 0, 0), seed="other")
    rows = page.locator("#drill-past-rows tr")
    found = []
    page.reload()
    if rows.count() != 2 or "other, 1" not in rows.first.inner_text():
        return [f"{rows.count()} drills after a reload"]
    if text(page, "kept") != "2 drills, kept in this browser only.":
        found.append(text(page, "kept"))
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#drill-delete")
    if rows.count() != 2:
        return [*found, "deleted although declined"]
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#drill-delete")
    if rows.count() or store(page) != {"drawn": [], "drills": []}:
        found.append("not deleted")
    return found


CHECKS = {
    "order, another prime": (order_faults, ("0x01000193", "0x01000191")),
    "order, no normal form": (order_faults, ('.normalize("NFC")', "")),
    "order, spaces count": (order_faults, ("seed.trim().normalize", "seed.normalize")),
    "steps": (step_faults, ("step.minutes, 0) * 60_000", "step.minutes, 0) * 65_000")),
    "steps, one too long": (
        step_faults,
        ("cadence[run.step].minutes * 60_000)", "(cadence[run.step].minutes + 1) * 60_000)"),
    ),
    "sleep, counts ticks": (
        sleep_faults,
        ("Math.max(0, Date.now() - run.since)", "(run.ticks = (run.ticks || 0) + 125)"),
    ),
    "sleep, one step a tick": (sleep_faults, ("while (run.step < LAST", "if (run.step < LAST")),
    "pause": (pause_faults, ("run.before = elapsed();\n      run.since = null;", "")),
    "gift": (gift_faults, ("run.step === LAST ? TOTAL", "run.step > LAST ? TOTAL")),
    "spoken, each second": (spoken_faults, ("if (run.step !== before) announce();", "announce();")),
    "spoken, never": (spoken_faults, ("if (run.step !== before) announce();", "")),
    "repeat": (repeat_faults, ("(one) => !read().drawn.includes(one)", "() => true")),
    "reveal, too early": (reveal_faults, ("i >= run.step && !run.done", "i > run.step")),
    "reveal, no rubric": (reveal_faults, ('$("assess").hidden = false;', "")),
    "reveal, no level": (reveal_faults, ("steps.at(-1) === id", "steps.at(-1) === title")),
    "guard": (guard_faults, ("return live();", "return false;")),
    "verdict, highest": (verdict_faults, ("const lowest = Math.min(", "const lowest = Math.max(")),
    "verdict, a chapter that is not there": (
        verdict_faults,
        ("if (address) return [", "if (chapter) return ["),
    ),
    "verdict, twice": (verdict_faults, ("run.entry = run.entry ||", "run.entry =")),
    "missing": (missing_faults, ("return first.focus();", "")),
    "history, lost": (history_faults, ("window.localStorage.setItem(KEY,", "String(")),
    "history, unasked": (history_faults, ("!window.confirm(", "!String(")),
    "history, stays": (history_faults, ("store.drills = []; ", "")),
}
CLOCK = {step_faults, sleep_faults, pause_faults, gift_faults, spoken_faults}


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in CHECKS.values()))
def test_the_script_passes(at, check):
    seen = at(clock=check in CLOCK, whole=False)
    assert check(seen.page) == []
    assert (seen.offsite, seen.failed, seen.errors) == ([], [], [])


@pytest.mark.parametrize("planted", CHECKS)
def test_gate_a_planted_fault_of_the_script_is_found(at, planted):
    check, fault = CHECKS[planted]
    assert check(at(clock=check in CLOCK, planted=fault, whole=False).page) != []


# What to read, in books that hold other chapters


def with_chapters(bare, file, *there: str):
    """Write the drill's page as it is in a book of the given chapters; return its path."""
    page = BeautifulSoup(bare.read_text(), "html.parser")
    data = page.find(id="drill-data")
    content = json.loads(data.string)
    addresses = {stem: f"{stem}.html" if stem in there else None for stem in PROMPTS}
    places = drill.Places(addresses, cases.nearest(cases.ideas(ROOT), there))
    planted = BeautifulSoup(drill._data(INDEX, PROMPTS, places), "html.parser").script.string
    data.string = json.dumps(content | {"prompts": json.loads(planted)["prompts"]})
    file.write_text(str(page))
    return file


@pytest.mark.parametrize(
    ("there", "said", "link"),
    [
        (["19_analytics_chatbot"], "Reread chapter 19, ", "19_analytics_chatbot.html"),
        (
            ["01_demand_forecasting", "16_support_rag_chatbot"],
            "Chapter 19, Business questions in plain words, is in preparation. "
            "The nearest chapter in the book is chapter 16, ",
            "16_support_rag_chatbot.html",
        ),
        ([], "is in preparation. Compare your answer with the model answer above.", None),
    ],
)
def test_the_advice_names_only_what_can_be_read(visit, bare, tmp_path, there, said, link):
    page = visit(with_chapters(bare, tmp_path / "drill.html", *there)).page
    page.goto(page.url + "#prompt-19_analytics_chatbot")
    page.reload()
    page.click("#drill-start")
    page.click("#drill-stop")
    assess(page)
    assert said in text(page, "verdict")
    links = page.locator("#drill-verdict a")
    assert [one.get_attribute("href") for one in links.all()] == ([link] if link else [])
    shown = "Chapter 19, Business questions in plain words"
    waiting = "" if there == ["19_analytics_chatbot"] else " (in preparation)"
    option = page.locator("#drill-chapter option[value='19_analytics_chatbot']")
    assert option.text_content() == shown + waiting
    assert ("in preparation" in text(page, "meta")) == bool(waiting)


# A whole drill without a mouse


def tab_to(page, selector: str, most: int = 150) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(most):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached in {most} steps")


def test_a_whole_drill_with_the_keyboard_alone(at):
    seen = at(clock=True)
    page, press = seen.page, seen.page.keyboard.press
    tab_to(page, "#drill-seed")
    press("Control+a")
    page.keyboard.type("round-3")
    tab_to(page, "#drill-draw button")
    press("Enter")
    assert page.url.endswith("#seed=round-3&draw=1")
    first = drill_prompts.order("round-3", list(PROMPTS))[0]
    assert text(page, "title") == PROMPTS[first]["title"]
    tab_to(page, "#drill-facts summary")
    press("Enter")
    assert page.locator("#drill-facts dd").first.is_visible()
    tab_to(page, "#drill-start")
    press("Space")
    tab_to(page, "#drill-next")
    page.clock.fast_forward("00:40")
    press("Enter")
    assert text(page, "now").startswith("Step 2 of 8")
    tab_to(page, "#drill-steps summary")
    press("Enter")
    page.clock.fast_forward("24:20")
    assert text(page, "status") == "The 25 minutes are over. The rubric is open below."
    assert page.evaluate("document.activeElement.matches('#drill-steps summary')"), "focus moved"
    for dimension, level in zip(INDEX["dimensions"], (2, 1, 3, 2, 2), strict=True):
        tab_to(page, f"input[name='drill-{dimension['id']}']")
        press("Space")
        for _ in range(level):
            press("ArrowRight")  # the theme must not turn the page
    tab_to(page, "#drill-assess button")
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "drill-result-title"
    assert text(page, "verdict").startswith("Total 10 of 15. Lowest, at 1 of 3: data and label.")
    assert [list(drill["scores"].values()) for drill in store(page)["drills"]] == [[2, 1, 3, 2, 2]]
    assert store(page)["drills"][0]["seconds"] == 1500
    assert (seen.offsite, seen.failed, seen.errors) == ([], [], [])


def test_leaving_the_page_during_a_drill_asks_first(in_a_window_of_its_own):
    page = in_a_window_of_its_own("#seed=round-3&draw=1").page
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.click("#drill-start")
    page.close(run_before_unload=True)
    page.wait_for_timeout(200)
    assert asked == ["beforeunload"]
    page.click("#drill-stop")
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    assert asked == ["beforeunload"]


def test_gate_a_button_out_of_reach_of_the_keyboard_is_found(at):
    page = at().page
    page.evaluate("document.querySelector('#drill-draw button').tabIndex = -1")
    tab_to(page, "#drill-seed")
    with pytest.raises(AssertionError, match="not reached"):
        tab_to(page, "#drill-draw button", most=20)


def test_no_single_key_does_anything(at):
    page = at("#seed=round-3&draw=1").page
    before = page.locator("div.drill").inner_html()
    for key in "abcdefghijklmnopqrstuvwxyz0123456789 ?":
        page.keyboard.press(key if key != " " else "Space")
    assert page.locator("div.drill").inner_html() == before


# The draw and its address


def test_the_address_of_a_draw_opens_the_same_prompt_elsewhere(at):
    page = at().page
    draw(page, "Two friends & ☂")
    draw(page, "Two friends & ☂")
    title, hash_ = text(page, "title"), page.evaluate("location.hash")
    other = at(hash_).page
    assert text(other, "title") == title
    assert other.input_value("#drill-seed") == "Two friends & ☂"
    assert other.evaluate("document.activeElement.id") == "drill-title"
    second = drill_prompts.order("Two friends & ☂", list(PROMPTS))[1]
    assert title == PROMPTS[second]["title"]


def test_each_sealed_mock_of_the_plan_opens_the_prompt_that_it_seals(at):
    page = at().page
    links = page.locator("a[href^='#seed=']")
    sealed = [row for row in drill.plan_rows(INDEX, list(PROMPTS)) if "seed" in row]
    assert links.count() == len(sealed) == 6
    for i, row in enumerate(sealed):
        links.nth(i).click()
        page.wait_for_function(
            "title => document.getElementById('drill-title').textContent === title",
            arg=PROMPTS[row["prompt"]]["title"],
        )


def test_a_prompt_of_the_plan_is_loaded_by_its_link(at):
    page = at().page
    page.locator("table a[href='#prompt-13_aml_monitoring']").click()
    page.wait_for_selector("#drill-card:not([hidden])")
    assert text(page, "title") == PROMPTS["13_aml_monitoring"]["title"]
    assert page.locator("#drill-draw").is_visible()


def test_an_address_without_such_a_draw_says_so(at):
    for hash_ in ("#seed=x&draw=99", "#seed=x&draw=no", "#seed=x&draw=0"):
        page = at(hash_, whole=False).page
        assert "There is no draw" in text(page, "status")
        assert not page.locator("#drill-card").is_visible()


def test_filters_narrow_the_draw(at):
    page = at().page
    page.select_option("#drill-format", "critique")
    wanted = {s for s, p in PROMPTS.items() if p["format"] == "critique"}
    for _ in wanted:
        draw(page)
        assert text(page, "meta").startswith("Critique")
    assert set(store(page)["drawn"]) == wanted
    draw(page)
    assert f"All {len(wanted)} were drawn" in text(page, "status")
    page.select_option("#drill-chapter", "07_subscription_churn")
    draw(page)
    assert text(page, "status") == "No prompt fits both filters."
    page.select_option("#drill-format", "")
    draw(page)
    assert text(page, "title") == PROMPTS["07_subscription_churn"]["title"]


# Self-assessment and history


def test_the_history_is_exported(at):
    page = at(whole=False).page
    score_one(page)
    with page.expect_download() as download:
        page.click("#drill-export")
    assert download.value.suggested_filename == "drills.json"
    exported = json.loads(download.value.path().read_text())["drills"]
    assert exported == store(page)["drills"]
    assert [one["total"] for one in exported] == [10]


def test_a_history_that_cannot_be_read_counts_as_empty(at):
    seen = at(whole=False)
    for kept in (
        "not JSON",
        "null",
        "[]",
        '{"drills": 3, "drawn": "x"}',
        '{"drills": [null, {"prompt": "gone", "total": 1, "date": "2026-01-01", "scores": {}},'
        ' {"prompt": "07_subscription_churn", "total": 1, "date": "no", "scores": {}}]}',
    ):
        seen.page.evaluate("kept => localStorage.setItem('casebook-drill', kept)", kept)
        seen.page.reload()
        assert text(seen.page, "kept") == "0 drills, kept in this browser only."
    score_one(seen.page)
    assert len(store(seen.page)["drills"]) == 1
    assert seen.errors == []


def test_without_storage_a_drill_works_and_the_page_says_what_is_lost(in_a_window_of_its_own):
    full = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceeded'); };"
    for script in (full, REFUSED):
        page = in_a_window_of_its_own(script=script).page
        ours = []
        page.on("pageerror", lambda e, ours=ours: "drill.js" in (e.stack or "") and ours.append(e))
        score_one(page)
        assert page.locator("#drill-past-rows tr").count() == 1
        assert "This browser keeps nothing" in text(page, "kept")
        draw(page)
        assert page.url.endswith("draw=2"), "what was drawn is remembered for the visit"
        assert ours == []


def test_gate_a_script_that_trusts_the_storage_is_found(in_a_window_of_its_own):
    planted = ("} catch {\n      keeps = false;", "} catch (e) {\n      throw e;")
    page = in_a_window_of_its_own(script=REFUSED, planted=planted).page
    draw(page)
    assert text(page, "status") == "", "the draw broke off"


# Every state, in both themes and on a phone


def states(page):
    """Walk through a drill; yield the name of each state while the page is in it."""
    assert not page.locator("#drill-nojs").is_visible()
    yield "before"
    draw(page)
    yield "drawn"
    page.click("#drill-start")
    page.click("#drill-next")
    page.click("#drill-next")
    yield "running"
    page.click("#drill-stop")
    page.click("#drill-assess button")
    yield "assessment"
    assess(page)
    yield "finished"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_wcag_violation_in_any_state(at, theme):
    page = at(theme=theme).page
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    # The folds below are measured with the other pages of the book.
    page.evaluate("document.querySelector('#drill-prompts').style.display = 'none'")
    page.add_style_tag(content="#drill-prompts { display: none }")
    for state in states(page):
        assert checks.axe(page, AXE.read_text()) == [], state


def test_gate_a_pale_status_is_found(at):
    page = at().page
    page.add_style_tag(
        content=".drill-status { color: #bbb !important } #drill-prompts { display: none }"
    )
    draw(page)
    assert any(line.startswith("color-contrast") for line in checks.axe(page, AXE.read_text()))


def test_nothing_scrolls_sideways_on_a_phone_in_any_state(at):
    page = at(width=390).page
    for state in states(page):
        assert checks.sideways(page) == [], state
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert checks.sideways(page) == []
    page.add_style_tag(content=".drill-draw { min-width: 500px }")
    assert checks.sideways(page) != []


def test_motion_is_left_out_for_those_who_ask(at):
    page = at("#seed=round-3&draw=1").page
    moving = """() => [...document.querySelectorAll('.drill *')].filter((e) => {
      const style = getComputedStyle(e);
      return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;
    }).length"""
    page.evaluate("document.querySelectorAll('.drill details').forEach((d) => { d.open = true; })")
    page.add_style_tag(content=".drill summary { transition: all 1s }")
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0


def test_on_paper_there_is_the_prompt_alone_and_unfolded(in_a_window_of_its_own):
    page = in_a_window_of_its_own(
        "#prompt-13_aml_monitoring", script="window.print = () => {}", whole=True, theme="dark"
    ).page
    page.click("#drill-print")
    page.emulate_media(media="print")
    sheet = page.locator("#drill-sheet")
    printed = page.evaluate("document.body.innerText")
    assert printed.strip() == sheet.inner_text().strip()
    for part in ("Facts to give when asked", "6,720 alerts a month", "0.15 / 0.001 = 150"):
        assert part in printed
    assert sheet.evaluate("e => getComputedStyle(e.querySelector('dd')).color") == "rgb(0, 0, 0)"
    page.emulate_media(media="screen")
    assert not sheet.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert sheet.count() == 0
    assert page.locator("#drill-card").is_visible()


# Without JavaScript, and as a file


def test_without_javascript_every_prompt_can_be_read(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((HTML / f"{PAGE}.html").as_uri() + "#prompt-13_aml_monitoring")
    assert not page.locator("div.drill").is_visible()
    assert page.locator("#drill-nojs").is_visible()
    folds = page.locator("details.drill-prompt")
    assert folds.count() == len(PROMPTS)
    fold = folds.first
    assert not fold.locator("blockquote").is_visible()
    fold.locator("summary").first.click()
    assert fold.locator("blockquote").is_visible()
    fold.locator(".drill-rubric > summary").click()
    assert fold.locator(".drill-rubric li").count() == 20
    assert fold.locator(".drill-rubric li").first.is_visible()
    assert page.locator("table", has_text="The cadence: 25 minutes").is_visible()
    context.close()


def test_the_page_holds_each_prompt_whole_and_no_id_twice():
    html = (HTML / f"{PAGE}.html").read_text()
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count('class="drill-rejected"') == len(PROMPTS)
    assert html.count("data-dimension=") == 5 * len(PROMPTS)
    assert html.count("data-step=") == 8 * len(PROMPTS)


def test_the_script_is_small_and_asks_for_nothing():
    source = SCRIPT.read_text()
    assert len(source.encode()) < 25_000
    for word in (
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "http:",
        "https:",
        "innerHTML",
        "sendBeacon",
    ):
        assert word not in source, word


def test_only_the_drill_loads_its_script():
    assert "drill.js" in (HTML / f"{PAGE}.html").read_text()
    assert "drill.js" not in (HTML / "book" / "index.html").read_text()
