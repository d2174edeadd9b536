/* Starts reveal.js once diagrams and figures are drawn: a hidden slide has no width to draw in. */
"use strict";

const [WIDTH, HEIGHT] = [1280, 720];
/* Content ends above the controls. */
const BOTTOM = 690;
/* Type shrinks, down to SMALLEST, until a slide holds all and its drawing is LARGE. */
const SMALLEST = 0.6;
const LARGE = 0.86;
/* Width over height up to which a drawing may stand beside its text. */
const BESIDE = 1.6;
const DRAWINGS = ".casebook-figure svg, .mermaid-drawn > svg, .casebook-plot";

/* Width over height of a drawing; plotly's have none of their own. */
function ratio(drawing) {
  const box = drawing.viewBox && drawing.viewBox.baseVal;
  return box && box.height ? box.width / box.height : null;
}

function resize(drawing, width, height) {
  drawing.style.width = `${width}px`;
  drawing.style.height = `${height}px`;
  if (drawing.tagName !== "svg") return;
  drawing.setAttribute("width", width);
  drawing.setAttribute("height", height);
}

const isLarge = (width, height) => width >= LARGE * WIDTH || height >= LARGE * HEIGHT;

/* Give a drawing the room below and above the text; say whether it is large. */
function stack(slide, drawing) {
  const wide = drawing.parentElement.clientWidth;
  resize(drawing, wide, 1);
  const high = Math.max(120, BOTTOM - slide.scrollHeight);
  const shape = ratio(drawing);
  const width = shape ? Math.min(wide, high * shape) : wide;
  const height = shape ? width / shape : high;
  resize(drawing, width, height);
  if (!shape && window.Plotly) window.Plotly.relayout(drawing, { width, height, autosize: false });
  return isLarge(width, height);
}

/* Put a drawing that is not much wider than high on the right, at full height. */
function putBeside(slide, drawing) {
  const width = Math.min(0.78 * WIDTH, (BOTTOM - 10) * ratio(drawing));
  resize(drawing, width, width / ratio(drawing));
  Object.assign(drawing.parentElement.style, { position: "absolute", right: "1rem", top: "0" });
  slide.style.paddingRight = `${width + 40}px`;
  return isLarge(width, width / ratio(drawing));
}

function fit() {
  const slide = window.Reveal.getCurrentSlide();
  const drawing = slide.querySelector(DRAWINGS);
  const small = drawing && ratio(drawing) && ratio(drawing) <= BESIDE;
  const ways = drawing ? [stack, ...(small ? [putBeside] : [])] : [() => true];
  for (const [i, way] of ways.entries()) {
    slide.style.paddingRight = "";
    if (drawing) drawing.parentElement.style.position = "";
    const least = i < ways.length - 1 ? 0.75 : SMALLEST;
    for (let size = 1; size >= least; size -= 0.05) {
      slide.style.fontSize = `${size}em`;
      const large = way(slide, drawing);
      if (large && slide.scrollHeight <= BOTTOM && slide.scrollWidth <= WIDTH) return;
    }
  }
}

/* A slide is wider than high: a flowchart lies in the direction in which it is larger, its
   boxes closer together than on a page. */
const TIGHT = '%%{init: {"flowchart": {"nodeSpacing": 22, "rankSpacing": 26, "wrappingWidth": 130}}}%%\n';
async function layFlowcharts() {
  let count = 0;
  const scale = (node) => {
    const { width, height } = node.querySelector("svg").viewBox.baseVal;
    return Math.min((WIDTH - 32) / width, 600 / height);
  };
  for (const drawn of document.querySelectorAll(".mermaid-drawn")) {
    for (const way of ["TB", "LR"]) {
      const source = drawn.dataset.source.replace(/^(\s*(?:flowchart|graph)\s+)(?:TB|TD|LR)\b/m, `$1${way}`);
      if (!/^\s*(flowchart|graph)\b/m.test(source)) continue;
      const { svg } = await window.mermaid.render(`slides-diagram-${(count += 1)}`, TIGHT + source);
      const other = document.createElement("div");
      other.innerHTML = svg;
      if (scale(other) > scale(drawn)) drawn.innerHTML = svg;
    }
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  const { Reveal, RevealNotes } = window;
  const sections = document.querySelectorAll(".slides section");
  const script = document.createElement("script");
  script.src = document.querySelector('script[src$="slides.js"]').src.replace("slides.js", "casebook.js");
  await new Promise((done) => { script.onload = done; document.head.append(script); });
  await window.casebookDraw();
  await layFlowcharts();
  await Reveal.initialize({
    width: WIDTH, height: HEIGHT, margin: 0.03, center: false, hash: true, slideNumber: "c/t",
    transition: "none", plugins: [RevealNotes],
  });
  Reveal.on("slidechanged", fit);
  fit();
  document.documentElement.dataset.slides = String(sections.length);
});
