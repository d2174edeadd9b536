/* Starts reveal.js once diagrams and figures are drawn: a hidden slide has no width to draw in. */
"use strict";

/* Type shrinks, down to SMALLEST, until a slide holds all that stands on it. */
const SMALLEST = 0.6;
function fit() {
  const slide = window.Reveal.getCurrentSlide();
  for (let size = 1; size >= SMALLEST; size -= 0.05) {
    slide.style.fontSize = `${size}em`;
    if (slide.scrollHeight <= 720) return;
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  const { Reveal, RevealNotes } = window;
  const sections = document.querySelectorAll(".slides section");
  const script = document.createElement("script");
  script.src = document.querySelector('script[src$="slides.js"]').src.replace("slides.js", "casebook.js");
  await new Promise((done) => { script.onload = done; document.head.append(script); });
  await window.casebookDraw();
  await Reveal.initialize({
    width: 1280, height: 720, margin: 0.03, center: false, hash: true, slideNumber: "c/t",
    transition: "none", plugins: [RevealNotes],
  });
  Reveal.on("slidechanged", () => { window.dispatchEvent(new Event("resize")); fit(); });
  fit();
  document.documentElement.dataset.slides = String(sections.length);
});
