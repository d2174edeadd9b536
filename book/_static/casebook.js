/* Draws diagrams and interactive figures in the colours of the page's theme.
   Mermaid and plotly.js are vendored and loaded only on pages that use them. */
"use strict";

(() => {
  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");
  const COLOURS = {
    light: { ink: "#1f2429", grid: "#d9dde1", paper: "#ffffff", box: "#e8f0f8", edge: "#4a5560" },
    dark: { ink: "#e6e6e6", grid: "#3b424a", paper: "#14181e", box: "#22344a", edge: "#a8b3bd" },
  };

  function selection(figure, { label, options, first }) {
    const wrapper = document.createElement("label");
    wrapper.className = "casebook-choice";
    wrapper.append(`${label} `);
    const select = document.createElement("select");
    for (const name of Object.keys(options)) select.add(new Option(name, name, name === first, name === first));
    select.addEventListener("change", () => drawPlotly(figure));
    wrapper.append(select);
    return wrapper;
  }

  function drawPlotly(figure) {
    const source = figure.querySelector('script[type="application/json"]');
    if (!source || !window.Plotly) return;
    const { data, layout } = JSON.parse(source.textContent);
    const colour = COLOURS[theme()];
    const choices = layout.meta && layout.meta.casebook_choices;
    let target = figure.querySelector(".casebook-plot");
    if (!target) {
      if (layout.title && layout.title.text) {
        const title = document.createElement("p");
        title.className = "casebook-title";
        title.textContent = layout.title.text;
        figure.append(title); // HTML wraps on a phone, plotly's own title is cut
      }
      if (choices) figure.append(selection(figure, choices));
      target = document.createElement("div");
      target.className = "casebook-plot";
      figure.append(target);
    }
    const axis = { gridcolor: colour.grid, zerolinecolor: colour.grid, linecolor: colour.edge };
    const themed = { ...layout, title: undefined, margin: { ...layout.margin, t: 16 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
    if (layout.legend && layout.legend.orientation === "h") {
      themed.legend = { ...layout.legend, yref: "container", y: 0, yanchor: "bottom" };
    }
    themed.font = { ...(layout.font || {}), color: colour.ink };
    themed.hoverlabel = { ...(layout.hoverlabel || {}), bgcolor: colour.paper, font: { color: colour.ink } };
    for (const key of Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k)).concat("xaxis", "yaxis")) {
      themed[key] = { automargin: true, ...(layout[key] || {}), ...axis };
    }
    if (choices) {
      const shown = choices.options[figure.querySelector("select").value];
      data.forEach((trace, i) => { trace.visible = shown.includes(i); });
    }
    window.Plotly.react(target, data, themed, { responsive: true, displayModeBar: false });
  }

  /* A diagram fits one screen, and on a phone its letters stay readable: narrow boxes, top to bottom. */
  const phone = window.matchMedia("(max-width: 600px)");
  const flowchart = () => ({
    useMaxWidth: true, htmlLabels: true, padding: 10, diagramPadding: 4, rankSpacing: 22,
    ...(phone.matches ? { wrappingWidth: 116, nodeSpacing: 10 } : { wrappingWidth: 220, nodeSpacing: 24 }),
  });
  const upright = (source) => (phone.matches ? source.replace(/^(\s*)(flowchart|graph) LR/, "$1$2 TB") : source);

  let mermaidRuns = 0;
  async function drawMermaid() {
    const blocks = document.querySelectorAll("pre.mermaid, div.mermaid-drawn");
    if (!blocks.length || !window.mermaid) return;
    const colour = COLOURS[theme()];
    window.mermaid.initialize({
      startOnLoad: false,
      theme: "base",
      securityLevel: "strict",
      fontFamily: "inherit",
      flowchart: flowchart(),
      themeVariables: {
        darkMode: theme() === "dark",
        background: colour.paper, primaryColor: colour.box, primaryTextColor: colour.ink,
        primaryBorderColor: colour.edge, lineColor: colour.edge, textColor: colour.ink,
        secondaryColor: colour.box, tertiaryColor: colour.paper, edgeLabelBackground: colour.paper,
        clusterBkg: colour.paper, clusterBorder: colour.edge, noteBkgColor: colour.box,
        noteTextColor: colour.ink,
      },
    });
    for (const block of blocks) {
      const source = block.dataset.source || block.textContent.trim();
      const { svg } = await window.mermaid.render(`casebook-diagram-${(mermaidRuns += 1)}`, upright(source));
      const drawn = document.createElement("div");
      drawn.className = "mermaid-drawn";
      drawn.dataset.source = source;
      drawn.innerHTML = svg;
      block.replaceWith(drawn);
    }
  }

  /* One drawing at a time; the page says for which theme and width the last one was. */
  const wanted = () => (phone.matches ? `${theme()} phone` : theme());
  async function drawAll() {
    const look = wanted();
    document.querySelectorAll(".casebook-plotly").forEach(drawPlotly);
    try {
      await drawMermaid();
    } finally {
      document.documentElement.setAttribute("data-casebook-drawn", look);
    }
  }
  let drawing = Promise.resolve();
  function draw() {
    drawing = drawing.then(drawAll, drawAll);
    return drawing;
  }

  /* A box that scrolls sideways says on which side there is more, and can be reached by keyboard. */
  const SCROLLING = ".bd-article :is(pre, .casebook-table, .pst-scrollable-table-container, div.math)";
  function cue(box) {
    const hidden = box.scrollWidth - box.clientWidth;
    const more = [];
    if (hidden > 1 && box.scrollLeft > 1) more.push("left");
    if (hidden > 1 && box.scrollLeft < hidden - 1) more.push("right");
    if (more.length) box.dataset.more = more.join(" ");
    else delete box.dataset.more;
    if (hidden > 1) box.tabIndex = 0;
  }
  function watchScrolling() {
    const watch = new ResizeObserver((entries) => entries.forEach((entry) => cue(entry.target)));
    for (const box of document.querySelectorAll(SCROLLING)) {
      box.addEventListener("scroll", () => cue(box), { passive: true });
      watch.observe(box);
    }
  }

  /* On paper every answer is open, folded code stays folded, and a figure that was drawn for the
     screen is as wide as the paper. Afterwards all is as it was. */
  function openForPrint() {
    let opened = [];
    const drawings = () => document.querySelectorAll(".casebook-plot svg.main-svg");
    window.addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll(".bd-article details:not([open])")].filter((fold) => !fold.closest(".tag_hide-input"));
      opened.forEach((fold) => { fold.open = true; });
      drawings().forEach((svg) => svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`));
    });
    window.addEventListener("afterprint", () => {
      opened.forEach((fold) => { fold.open = false; });
      drawings().forEach((svg) => svg.removeAttribute("viewBox"));
    });
  }

  async function start() {
    watchScrolling();
    openForPrint();
    phone.addEventListener("change", draw);
    new MutationObserver(draw).observe(document.documentElement, {
      attributes: true,
      attributeFilter: ["data-theme"],
    });
    await draw();
  }

  /* Slides call it themselves, before the first slide hides the others. */
  if (document.querySelector(".reveal")) window.casebookDraw = start;
  else document.addEventListener("DOMContentLoaded", start);
})();
