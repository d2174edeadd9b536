/* The timed drill: draws a prompt by seed, keeps the cadence, scores, remembers.
   Texts of prompts are read from the folds of the page; nothing is fetched. */
"use strict";

(() => {
  const panel = document.getElementById("drill");
  const source = document.getElementById("drill-data");
  if (!panel || !source) return;
  const { cadence, dimensions, levels, prompts } = JSON.parse(source.textContent);
  const KEY = "casebook-drill";
  const TOTAL = cadence.reduce((sum, step) => sum + step.minutes, 0) * 60_000;
  const LAST = cadence.length - 1;
  const $ = (name) => document.getElementById(`drill-${name}`);
  const prompt = (id) => prompts.find((one) => one.id === id);

  function make(tag, text = "", attributes = {}) {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  const say = (text) => { $("status").textContent = text; };
  const upper = (text) => text[0].toUpperCase() + text.slice(1);
  const WAITING = " (in preparation)";
  const link = (name, address) => (address ? make("a", name, { href: address }) : name + WAITING);
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  /* ---- the draw; casebook/book/drill.py computes the same order ---- */

  function number(text) {
    let h = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
    h = (h + 0x6d2b79f5) | 0;
    h = Math.imul(h ^ (h >>> 15), h | 1);
    h ^= h + Math.imul(h ^ (h >>> 7), h | 61);
    return (h ^ (h >>> 14)) >>> 0;
  }

  function order(seed) {
    const name = seed.trim().normalize("NFC");
    return prompts
      .map(({ id }) => [number(`${name}/${id}`), id])
      .sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1))
      .map(([, id]) => id);
  }

  function randomSeed() {
    const letters = "abcdefghjkmnpqrstuvwxyz23456789";
    return [...crypto.getRandomValues(new Uint8Array(5))].map((n) => letters[n % letters.length]).join("");
  }

  const fits = ({ id, format, part }) => {
    const chapter = $("chapter").value;
    return (!$("format").value || format === $("format").value) && (!chapter || chapter === id || chapter === part);
  };

  /* ---- history: this browser only, or this visit only where storage is refused ---- */

  let memory = { drawn: [], drills: [] };
  let keeps = true;

  const isDrill = (d) => d && typeof d === "object" && prompt(d.prompt) && Number.isFinite(d.total)
    && Number.isFinite(Date.parse(d.date)) && d.scores && typeof d.scores === "object";

  function read() {
    try {
      const found = JSON.parse(window.localStorage.getItem(KEY) || "{}") || {};
      if (keeps) memory = {
        drawn: Array.isArray(found.drawn) ? found.drawn.filter(prompt) : [],
        drills: Array.isArray(found.drills) ? found.drills.filter(isDrill) : [],
      };
    } catch (error) {
      if (!(error instanceof SyntaxError)) keeps = false;
    }
    return memory;
  }

  function update(change) {
    change(read());
    try {
      window.localStorage.setItem(KEY, JSON.stringify(memory));
    } catch {
      keeps = false;
    }
    showPast();
  }

  function showPast() {
    const { drills } = read();
    $("kept").textContent = keeps
      ? `${plural(drills.length, "drill")}, kept in this browser only.`
      : `${plural(drills.length, "drill")}. This browser keeps nothing for this page: the history lasts until you leave it.`;
    $("past").hidden = !drills.length;
    for (const name of ["export", "delete"]) dim($(name), !drills.length);
    $("past-rows").replaceChildren(...[...drills].reverse().map((drill) => {
      const row = make("tr");
      const name = make("td");
      name.append(make("a", prompt(drill.prompt).title, { href: `#prompt-${drill.prompt}` }));
      row.append(
        make("td", new Date(drill.date).toLocaleDateString("en-GB", { dateStyle: "medium" })), name,
        make("td", String(drill.total), { class: "number" }),
        ...dimensions.map(({ id }) => make("td", String(drill.scores[id] ?? ""), { class: "number" })),
        make("td", clock(drill.seconds * 1000), { class: "number" }),
        make("td", drill.seed ? `${drill.seed}, ${drill.draw}` : "chosen"),
      );
      return row;
    }));
  }

  function exportAll() {
    const text = JSON.stringify({ about: "Drills of The ML Systems Casebook", drills: read().drills }, null, 2);
    const file = make("a", "", { download: "drills.json" });
    file.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 10_000);
  }

  function deleteAll() {
    if (!window.confirm("Delete all past drills and what was drawn from this browser?")) return;
    update((store) => { store.drills = []; store.drawn = []; });
    say("The history is deleted.");
  }

  /* ---- one drill ---- */

  let run = null;
  const live = () => run && !run.done && (run.since !== null || run.before > 0);
  const dim = (button, off) => button.setAttribute("aria-disabled", String(off));
  const isDim = (button) => button.getAttribute("aria-disabled") === "true";
  const clock = (ms) => {
    const seconds = Math.max(0, Math.ceil(ms / 1000 - 0.001)) || 0;
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };
  /* From the clock, never from counted ticks: a tab may sleep. */
  const elapsed = () => Math.min(TOTAL, run.before + (run.since === null ? 0 : Math.max(0, Date.now() - run.since)));
  const stepEnd = () => (run.step === LAST ? TOTAL : run.began + cadence[run.step].minutes * 60_000);
  const named = (i) => `Step ${i + 1} of ${cadence.length}: ${cadence[i].title}`;

  function load(id, seed = null, draw = null) {
    const { title, format, chapter, address } = prompt(id);
    run = { id, seed, draw, before: 0, since: null, step: 0, began: 0, done: false, entry: null };
    const fold = document.querySelector(`[data-prompt="${id}"]`);
    $("title").textContent = title;
    $("meta").replaceChildren(`${upper(format)} · `, link(chapter, address),
      seed ? ` · seed ${seed}, draw ${draw}` : "");
    $("ask").replaceChildren(fold.querySelector(".drill-ask p").cloneNode(true));
    const facts = fold.querySelector(".drill-facts").cloneNode(true);
    facts.open = false;
    $("facts").replaceChildren(facts);
    $("steps").replaceChildren(...cadence.map((step) => make("li", `${step.title}, ${step.minutes} min`)));
    $("assess").hidden = $("result").hidden = true;
    fillAssessment(fold);
    $("card").hidden = false;
    update((store) => { if (!store.drawn.includes(id)) store.drawn.push(id); });
    show();
  }

  function refuse() {
    if (live()) say("A drill is under way: stop or reset it first.");
    return live();
  }

  function drawNext() {
    if (refuse()) return;
    const seed = $("seed").value.trim() || randomSeed();
    $("seed").value = seed;
    const all = order(seed);
    const fitting = all.filter((id) => fits(prompt(id)));
    if (!fitting.length) return say("No prompt fits both filters.");
    let again = "";
    let id = fitting.find((one) => !read().drawn.includes(one));
    if (!id) {
      again = ` All ${fitting.length} were drawn; the round starts again.`;
      update((store) => { store.drawn = store.drawn.filter((one) => !fitting.includes(one)); });
      id = fitting[0];
    }
    open(id, seed, all.indexOf(id) + 1, again);
  }

  function open(id, seed, draw, more = "") {
    load(id, seed, draw);
    const hash = seed ? `#${new URLSearchParams({ seed, draw })}` : `#prompt-${id}`;
    history.replaceState(null, "", hash);
    say(`Drawn: ${prompt(id).title}, ${prompt(id).format}.${more}`);
  }

  /* #seed=…&draw=… or #prompt-… opens that prompt, on every machine the same. */
  function fromHash() {
    const chosen = /^#prompt-(.+)$/.exec(location.hash);
    const wanted = new URLSearchParams(location.hash.slice(1));
    const id = chosen ? decodeURIComponent(chosen[1]) : null;
    if (!(id && prompt(id)) && !wanted.has("seed")) return;
    if (refuse()) {
      history.replaceState(null, "", run.seed ? `#${new URLSearchParams({ seed: run.seed, draw: run.draw })}` : `#prompt-${run.id}`);
      panel.scrollIntoView();
      return;
    }
    if (id) {
      open(id, null, null);
    } else {
      const seed = wanted.get("seed").trim().slice(0, 40);
      $("seed").value = seed;
      const draw = Number(wanted.get("draw") || 1);
      const found = order(seed)[draw - 1];
      if (!seed || !found) return say(`There is no draw ${wanted.get("draw")} of this seed: draws go from 1 to ${prompts.length}.`);
      open(found, seed, draw);
    }
    panel.scrollIntoView();
    $("title").focus({ preventScroll: true });
  }

  function reveal() {
    const fold = document.querySelector(`[data-prompt="${run.id}"]`);
    [...$("steps").children].forEach((item, i) => {
      const { id, title } = cadence[i];
      if ((i >= run.step && !run.done) || item.querySelector("details")) return;
      const text = fold.querySelector(`[data-step="${id}"]`);
      const unfold = (summary, part) => {
        const details = make("details");
        details.append(make("summary", summary), part.cloneNode(true));
        item.append(details);
      };
      unfold(`What an answer should cover: ${title.toLowerCase()}`, text.querySelector(".drill-covers"));
      unfold(`Model answer: ${title.toLowerCase()}`, text.querySelector(".drill-answer"));
      for (const one of dimensions.filter(({ steps }) => steps.at(-1) === id)) {
        unfold(`Rubric: ${one.title.toLowerCase()}`, fold.querySelector(`[data-dimension="${one.id}"] ol`));
      }
      if (i === LAST) unfold("The sums of the model answer", fold.querySelector(".drill-sums ul"));
    });
  }

  function put(name, text) {
    if ($(name).textContent !== text) $(name).textContent = text;
  }

  function show() {
    const now = elapsed();
    const { title, minutes, does } = cadence[run.step];
    put("now", run.done ? `Over after ${clock(run.before)}` : `Step ${run.step + 1} of ${cadence.length}: ${title}, ${minutes} min`);
    put("does", run.done ? "Compare with the model answers, then assess yourself." : does);
    put("left", clock(run.done ? 0 : stepEnd() - now));
    put("total", clock(TOTAL - now));
    $("progress").value = now / 1000;
    put("start", run.since !== null ? "Pause" : run.before ? "Go on" : "Start");
    put("next", run.step === LAST ? "Finish" : "Next step");
    dim($("start"), run.done);
    for (const name of ["next", "stop"]) dim($(name), !live());
    [...$("steps").children].forEach((item, i) => {
      if (i === run.step && live()) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    reveal();
  }

  function tick() {
    if (!run || run.done || run.since === null) return;
    const before = run.step;
    while (run.step < LAST && elapsed() >= stepEnd()) enter(stepEnd());
    if (elapsed() >= TOTAL) return finish("The 25 minutes are over. The rubric is open below.");
    if (run.step !== before) announce();
    show();
  }

  function enter(at) {
    run.began = at;
    run.step += 1;
  }

  const announce = (first = "") => say(`${first}${named(run.step)}, ${run.step === LAST ? "until the end" : plural(cadence[run.step].minutes, "minute")}.`);

  function toggle() {
    if (!run || run.done) return;
    tick();
    if (run.done) return;
    if (run.since === null) {
      const first = run.before === 0;
      run.since = Date.now();
      announce(first ? "Started. " : "Going on. ");
    } else {
      run.before = elapsed();
      run.since = null;
      say("Paused.");
    }
    show();
  }

  function next() {
    tick();
    if (!live()) return;
    if (run.step === LAST) return stop();
    enter(elapsed());
    announce();
    show();
  }

  function stop() {
    tick();
    if (!live()) return;
    finish(`Stopped after ${clock(elapsed())}. The rubric is open.`);
    $("assess-title").focus();
  }

  function finish(message) {
    run.before = elapsed();
    run.since = null;
    run.done = true;
    $("assess").hidden = false;
    say(message);
    show();
  }

  function reset() {
    load(run.id, run.seed, run.draw);
    say("Reset.");
  }

  /* ---- self-assessment ---- */

  function fillAssessment(fold) {
    $("dimensions").replaceChildren(...dimensions.map(({ id, title, steps }) => {
      const group = make("fieldset", "", { "data-for": id });
      const parts = cadence.filter((step) => steps.includes(step.id)).map((step) => step.title.toLowerCase());
      group.append(make("legend", title), make("p", `Steps: ${parts.join(", ")}.`, { class: "drill-meta" }));
      [...fold.querySelectorAll(`[data-dimension="${id}"] li`)].forEach((level, i) => {
        const label = make("label", "", { class: "drill-level" });
        label.append(make("input", "", { type: "radio", name: `drill-${id}`, value: i }), make("span", `${i}: ${level.textContent}`));
        group.append(label);
      });
      return group;
    }));
  }

  function score(event) {
    event.preventDefault();
    const scores = {};
    let first = null;
    for (const { id, title } of dimensions) {
      const group = panel.querySelector(`[data-for="${id}"]`);
      const chosen = group.querySelector("input:checked");
      group.querySelector(".drill-missing")?.remove();
      if (chosen) scores[id] = Number(chosen.value);
      else {
        group.append(make("p", `Choose a level for ${title.toLowerCase()}.`, { class: "drill-missing" }));
        first = first || group.querySelector("input");
      }
    }
    if (first) {
      say(`${plural(panel.querySelectorAll(".drill-missing").length, "level")} missing.`);
      return first.focus();
    }
    keep(scores);
    showResult(scores);
  }

  function keep(scores) {
    const total = Object.values(scores).reduce((a, b) => a + b, 0);
    run.entry = run.entry || new Date(Date.now()).toISOString();
    const { id, seed, draw, entry } = run;
    const drill = { date: entry, prompt: id, seed, draw, seconds: Math.round(run.before / 1000), scores, total };
    update((store) => { store.drills = [...store.drills.filter((one) => one.date !== entry || one.prompt !== id), drill]; });
  }

  /* What to read: the chapter itself, or the nearest one that is in the book. */
  function advice(id, sections) {
    const { chapter, address, nearest } = prompt(id);
    if (address) return ["Reread ", link(chapter, address), `: ${sections}.`];
    const waits = `${upper(chapter)}, is in preparation. `;
    if (!nearest) return [waits, "Compare your answer with the model answer above."];
    return [waits, "The nearest chapter in the book is ", link(nearest.chapter, nearest.address), `. Read there: ${sections}.`];
  }

  function showResult(scores) {
    const { id } = run;
    const top = levels - 1;
    const lowest = Math.min(...Object.values(scores));
    const weak = dimensions.filter((one) => scores[one.id] === lowest);
    const total = Object.values(scores).reduce((a, b) => a + b, 0);
    $("verdict").textContent = `Total ${total} of ${top * dimensions.length}. `;
    if (lowest === top) {
      $("verdict").append("Every dimension is at its highest level.");
    } else {
      $("verdict").append(make("strong", `Lowest, at ${lowest} of ${top}: ${weak.map((one) => one.title.toLowerCase()).join("; ")}. `));
      $("verdict").append(...advice(run.id, weak.map((one) => one.reread).join("; ")));
    }
    $("scores").replaceChildren(...dimensions.map((one) => {
      const value = scores[one.id];
      const more = value < top
        ? ` For ${value + 1}: “${document.querySelector(`[data-prompt="${id}"] [data-dimension="${one.id}"] li:nth-child(${value + 2})`).textContent}”`
        : "";
      return make("li", `${one.title}: ${value} of ${top}.${more}`);
    }));
    $("result").hidden = false;
    say(`Scored ${total} of ${top * dimensions.length}.`);
    $("result-title").focus();
  }

  /* ---- paper ---- */

  function print() {
    document.getElementById("drill-sheet")?.remove();
    const sheet = make("div", "", { id: "drill-sheet" });
    const copy = document.querySelector(`[data-prompt="${run.id}"]`).cloneNode(true);
    copy.removeAttribute("id");
    copy.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    sheet.append(make("h1", prompt(run.id).title), copy);
    document.body.append(sheet);
    document.documentElement.dataset.drillPrint = "true";
    window.print();
  }

  function afterPrint() {
    delete document.documentElement.dataset.drillPrint;
    document.getElementById("drill-sheet")?.remove();
  }

  /* ---- start ---- */

  function start() {
    for (const format of [...new Set(prompts.map((one) => one.format))]) $("format").add(new Option(format, format));
    for (const part of [...new Set(prompts.map((one) => one.part))]) {
      const group = make("optgroup", "", { label: part });
      group.append(new Option(`all of ${part}`, part));
      for (const one of prompts.filter((p) => p.part === part)) group.append(new Option(upper(one.chapter) + (one.address ? "" : WAITING), one.id));
      $("chapter").append(group);
    }
    for (const name of ["Date", "Prompt", "Total", ...dimensions.map((one) => one.short), "Time", "Seed, draw"]) {
      $("past-head").append(make("th", name, { scope: "col" }));
    }
    $("seed").value = randomSeed();
    $("draw").addEventListener("submit", (event) => { event.preventDefault(); drawNext(); });
    $("assess").addEventListener("submit", score);
    const actions = { start: toggle, next, stop, reset, print, export: exportAll, delete: deleteAll };
    for (const [name, action] of Object.entries(actions)) {
      $(name).addEventListener("click", () => { if (!isDim($(name))) action(); });
    }
    setInterval(tick, 250);
    document.addEventListener("visibilitychange", tick);
    window.addEventListener("pageshow", tick);
    window.addEventListener("hashchange", fromHash);
    window.addEventListener("afterprint", afterPrint);
    window.addEventListener("beforeunload", (event) => { if (live()) event.preventDefault(); });
    showPast();
    $("nojs").hidden = true;
    panel.hidden = false;
    fromHash();
  }

  window.casebookDrill = { order };
  start();
})();
