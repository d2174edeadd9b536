/* The threshold calculator of the page on costs: two normal score distributions, two costs,
   the threshold that costs least. No request, no storage. */
(() => {
  "use strict";

  const root = document.getElementById("threshold");
  if (!root) return;

  // id, label, what the slider spans, what the field allows, start
  const FIELDS = [
    { id: "fp", label: "Cost of a false alarm", from: 1, to: 100, step: 1, min: 0.001, max: 1e6, start: 1 },
    { id: "fn", label: "Cost of a miss", from: 1, to: 100, step: 1, min: 0.001, max: 1e6, start: 10 },
    { id: "prevalence", label: "Positive cases, %", from: 0.1, to: 50, step: 0.1, min: 0.001, max: 99.9, start: 2 },
    { id: "chosen", label: "Your threshold", from: 0, to: 1, step: 0.01, min: -25, max: 25, start: 0.7 },
    { id: "mean0", label: "Mean score of negatives", from: 0, to: 1, step: 0.01, min: -5, max: 5, start: 0.3 },
    { id: "sd0", label: "Spread of negatives", from: 0.02, to: 0.4, step: 0.01, min: 0.01, max: 2, start: 0.1 },
    { id: "mean1", label: "Mean score of positives", from: 0, to: 1, step: 0.01, min: -5, max: 5, start: 0.6 },
    { id: "sd1", label: "Spread of positives", from: 0.02, to: 0.4, step: 0.01, min: 0.01, max: 2, start: 0.15 },
  ];
  const CASES = 10000;
  const GRID = 4000;
  const now = Object.fromEntries(FIELDS.map((field) => [field.id, field.start]));

  // The model

  /** Return the upper tail of the standard normal: a series near 0, a continued fraction beyond. */
  function tail(z) {
    if (z < 0) return 1 - tail(-z);
    const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
    if (z > 3) {
      let fraction = 0;
      for (let k = 80; k > 0; k -= 1) fraction = k / (z + fraction);
      return density / (z + fraction);
    }
    let term = z;
    let sum = z;
    for (let k = 3; k < 120; k += 2) sum += term *= (z * z) / k;
    return 0.5 - density * sum;
  }

  const density = (x, mean, sd) => Math.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * Math.sqrt(2 * Math.PI));

  /** Return shares of all cases and the cost of a case when scores above t are flagged. */
  function outcome(at, t) {
    const share = at.prevalence / 100;
    const fp = (1 - share) * tail((t - at.mean0) / at.sd0);
    const tp = share * tail((t - at.mean1) / at.sd1);
    const fn = share * tail((at.mean1 - t) / at.sd1);
    const tn = (1 - share) * tail((at.mean0 - t) / at.sd0);
    return { fp, tp, fn, tn, cost: at.fp * fp + at.fn * fn };
  }

  function span(at, spreads) {
    return [
      Math.min(at.mean0 - spreads * at.sd0, at.mean1 - spreads * at.sd1),
      Math.max(at.mean0 + spreads * at.sd0, at.mean1 + spreads * at.sd1),
    ];
  }

  /** Return the threshold that costs least; -Infinity flags everybody, Infinity nobody. */
  function optimum(at) {
    const [low, high] = span(at, 8);
    const step = (high - low) / GRID;
    let best = low;
    for (let k = 0; k <= GRID; k += 1)
      if (outcome(at, low + k * step).cost < outcome(at, best).cost) best = low + k * step;
    let [a, b] = [best - step, best + step];
    const ratio = (Math.sqrt(5) - 1) / 2;
    while (b - a > 1e-9) {
      const [c, d] = [b - ratio * (b - a), a + ratio * (b - a)];
      if (outcome(at, c).cost < outcome(at, d).cost) b = d;
      else a = c;
    }
    best = (a + b) / 2;
    const all = outcome(at, -Infinity).cost;
    const none = outcome(at, Infinity).cost;
    if (outcome(at, best).cost < Math.min(all, none) * (1 - 1e-9)) return best;
    return all < none ? -Infinity : Infinity;
  }

  /** Return the probability of a positive case at a score. */
  function probability(at, t) {
    const one = (at.prevalence / 100) * density(t, at.mean1, at.sd1);
    return one / (one + (1 - at.prevalence / 100) * density(t, at.mean0, at.sd0));
  }

  // Words

  const whole = (value) => Math.round(value).toLocaleString("en-GB");
  const money = (value) => value.toLocaleString("en-GB", { maximumSignificantDigits: 4 });
  function place(t) {
    if (t === Infinity) return "flag nobody";
    return t === -Infinity ? "flag everybody" : t.toFixed(3).replace("-", "−");
  }
  const element = (id) => document.getElementById(`threshold-${id}`);

  // The picture

  const SVG = "http://www.w3.org/2000/svg";
  function add(parent, name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function draw(at, best) {
    const svg = element("picture");
    const width = Math.max(260, Math.round(svg.parentElement.clientWidth));
    const [left, right, top, middle, bottom] = [12, width - 12, 26, 150, 320];
    svg.setAttribute("viewBox", `0 0 ${width} 370`);
    svg.setAttribute("height", 370);
    svg.replaceChildren();
    const [low, high] = span(at, 3.5);
    const x = (t) => left + ((right - left) * (Math.min(high, Math.max(low, t)) - low)) / (high - low);
    const points = Array.from({ length: 301 }, (_, k) => low + ((high - low) * k) / 300);
    const costs = points.map((t) => outcome(at, t).cost);
    const most = Math.max(...costs);
    const tallest = Math.max(density(at.mean0, at.mean0, at.sd0), density(at.mean1, at.mean1, at.sd1));
    const line = (values, base, height, kind) =>
      add(svg, "path", {
        class: kind,
        d: values.map((v, k) => `${k ? "L" : "M"}${x(points[k]).toFixed(1)} ${(base - height * v).toFixed(1)}`).join(""),
      });
    line(points.map((t) => density(t, at.mean0, at.sd0) / tallest), middle, middle - top - 8, "threshold-negatives");
    line(points.map((t) => density(t, at.mean1, at.sd1) / tallest), middle, middle - top - 8, "threshold-positives");
    line(costs.map((cost) => cost / most), bottom, bottom - middle - 40, "threshold-cost");
    for (const base of [middle, bottom]) add(svg, "line", { class: "threshold-axis", x1: left, x2: right, y1: base, y2: base });
    add(svg, "text", { x: left, y: 16 }, "Scores of negatives (solid) and positives (dashed)");
    const least = outcome(at, best).cost;
    add(svg, "text", { x: left, y: middle + 22 }, `Cost by threshold (lowest: ${money(CASES * least)})`);
    const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5].find((size) => (high - low) / size <= width / 60) || 10;
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) {
      add(svg, "line", { class: "threshold-axis", x1: x(k * step), x2: x(k * step), y1: bottom, y2: bottom + 5 });
      add(svg, "text", { x: x(k * step), y: bottom + 20, "text-anchor": "middle" }, (k * step).toFixed(step < 0.1 ? 2 : 1).replace("-", "−"));
    }
    add(svg, "text", { x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, "score");
    const mark = (t, kind) => {
      const y = bottom - ((bottom - middle - 40) * outcome(at, t).cost) / most;
      for (const [y1, y2] of [[top, middle], [middle + 30, bottom]])
        add(svg, "line", { class: kind, x1: x(t), x2: x(t), y1, y2 });
      return add(svg, kind.endsWith("best") ? "circle" : "rect",
        kind.endsWith("best") ? { class: kind, cx: x(t), cy: y, r: 6 } : { class: kind, x: x(t) - 5, y: y - 5, width: 10, height: 10 });
    };
    mark(at.chosen, "threshold-yours");
    mark(best, "threshold-best");
    svg.setAttribute(
      "aria-label",
      `Two curves of scores and the curve of the expected cost. It is lowest at ${place(best)} (circle); your threshold is ${place(at.chosen)} (square).`,
    );
  }

  // The page

  function row(head, t, result) {
    const line = document.createElement("tr");
    const title = document.createElement("th");
    title.scope = "row";
    title.textContent = head;
    line.append(title);
    const counts = ["fp", "fn", "tp", "tn"].map((kind) => whole(CASES * result[kind]));
    for (const text of [Number.isFinite(t) ? place(t) : "–", ...counts, money(CASES * result.cost)]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      cell.className = "number";
      line.append(cell);
    }
    return line;
  }

  function show() {
    const best = optimum(now);
    const least = outcome(now, best);
    element("rows").replaceChildren(
      row("Optimum", best, least),
      row("Yours", now.chosen, outcome(now, now.chosen)),
      row("Flag nobody", Infinity, outcome(now, Infinity)),
      row("Flag everybody", -Infinity, outcome(now, -Infinity)),
    );
    const ruled = now.fp / (now.fp + now.fn);
    element("optimum").textContent = place(best);
    element("rule").textContent = ruled.toFixed(3);
    element("at").textContent = Number.isFinite(best) ? probability(now, best).toFixed(3) : "none";
    const extra = outcome(now, now.chosen).cost / least.cost - 1;
    element("extra").textContent = `${(100 * Math.max(0, extra)).toFixed(1)} %`;
    draw(now, best);
  }

  function tell() {
    if (wrong.size) return;
    element("status").textContent =
      `Optimum: ${element("optimum").textContent}. Your threshold costs ${element("extra").textContent} more.`;
  }

  /* Fields whose number cannot be used: nothing is computed while there is one. */
  const wrong = new Set();

  /** Say what is wrong with what was typed, or return "" if it can be used. */
  function complaint(field, input) {
    if (input.validity.badInput) return `${field.label}: this is not a number.`;
    if (input.value === "") return `${field.label}: a number is missing.`;
    const value = input.valueAsNumber;
    if (value >= field.min && value <= field.max) return "";
    const bound = value < field.min ? `below the smallest, ${field.min}` : `above the largest, ${field.max.toLocaleString("en-GB")}`;
    return `${field.label}: ${input.value} is ${bound}.`;
  }

  /** Take every result away: none belongs to what the fields say. */
  function clear() {
    for (const id of ["optimum", "extra", "at", "rule"]) element(id).textContent = "–";
    for (const cell of element("rows").querySelectorAll("td")) cell.textContent = "–";
    element("picture").replaceChildren();
    element("picture").setAttribute("aria-label", "No picture: a number cannot be used.");
    element("status").textContent = "No result: a number cannot be used. It is marked above.";
  }

  function refuse(field, number, text) {
    wrong.add(field.id);
    number.setAttribute("aria-invalid", "true");
    element(`${field.id}-fault`).textContent = text;
    clear();
  }

  function set(field, value, source) {
    now[field.id] = value;
    wrong.delete(field.id);
    const [slider, number] = [element(`${field.id}-slider`), element(field.id)];
    if (source !== slider) slider.value = value;
    if (source !== number) number.value = value;
    slider.setAttribute("aria-valuetext", String(value));
    number.removeAttribute("aria-invalid");
    element(`${field.id}-fault`).textContent = "";
    if (wrong.size) return;
    if (element("status").textContent.startsWith("No result")) element("status").textContent = "";
    show();
  }

  function build(field) {
    const box = document.createElement("div");
    box.className = "threshold-field";
    const label = document.createElement("label");
    label.htmlFor = `threshold-${field.id}`;
    label.textContent = field.label;
    const inputs = ["range", "number"].map((type) => {
      const input = document.createElement("input");
      const slides = type === "range";
      Object.assign(input, { type, min: slides ? field.from : field.min, max: slides ? field.to : field.max, step: slides ? field.step : "any" });
      input.id = `threshold-${field.id}${slides ? "-slider" : ""}`;
      if (slides) input.setAttribute("aria-label", `${field.label}, slider`);
      input.value = field.start;
      input.addEventListener("change", tell);
      return input;
    });
    const [slider, number] = inputs;
    const fault = document.createElement("p");
    fault.id = `threshold-${field.id}-fault`;
    fault.className = "threshold-fault";
    fault.setAttribute("role", "alert");
    number.setAttribute("aria-describedby", fault.id);
    slider.addEventListener("input", () => set(field, slider.valueAsNumber, slider));
    number.addEventListener("input", () => {
      const text = complaint(field, number);
      if (text) refuse(field, number, text);
      else set(field, number.valueAsNumber, number);
    });
    box.append(label, slider, number, fault);
    return box;
  }

  element("fields").append(...FIELDS.map(build));
  element("move").addEventListener("click", () => {
    if (wrong.size) return;
    const best = optimum(now);
    const [low, high] = span(now, 3.5);
    const chosen = FIELDS.find((field) => field.id === "chosen");
    set(chosen, Number(Math.min(high, Math.max(low, best)).toFixed(4)));
    tell();
  });
  element("reset").addEventListener("click", () => {
    for (const field of FIELDS) set(field, field.start);
    tell();
  });
  root.hidden = false;
  new ResizeObserver(() => wrong.size || draw(now, optimum(now))).observe(element("picture").parentElement);
  show();
})();
