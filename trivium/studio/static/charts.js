// Curves, drawn by Plotly in the page's own colours. It is large, so it is fetched when the first curve is near.

// Plotly, and the maps inside it, would write styles into the page, which our policy forbids; it leaves that when
// elements of these names are there. What it needs of them stands in studio.css.
const STYLES = ["plotly.js-style-global", "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53"];

let coming = null;

function plotly() {
  coming ??= new Promise((resolve, reject) => {
    for (const id of STYLES) document.head.append(Object.assign(document.createElement("template"), { id, className: "no-inline-styles" }));
    const script = document.createElement("script");
    script.src = "/static/plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("The charts could not be loaded."));
    document.head.append(script);
  });
  return coming;
}

const colour = (place, name) => getComputedStyle(place).getPropertyValue(name).trim();

/** Draw a figure of the server's into an element, or draw it again with newer points. */
export async function draw(place, figure) {
  place.figure = figure;
  const Plotly = await plotly();
  if (place.figure !== figure || !place.isConnected) return;
  place.classList.remove("waiting");
  await Plotly.react(place, traces(place, figure), layout(place, figure), { displayModeBar: false, responsive: true, doubleClick: "reset" });
}

function traces(place, figure) {
  const main = colour(place, "--c");
  const order = ["raw", "line", "dots"];
  const sorted = [...figure.lines].sort((a, b) => order.indexOf(a.style) - order.indexOf(b.style));
  return sorted.map((line) => ({
    x: line.points.map((point) => point[0]),
    y: line.points.map((point) => point[1]),
    name: line.name || figure.title,
    mode: line.style === "dots" || (line.style === "line" && line.points.length < 25) ? "lines+markers" : "lines",
    line: { color: main, width: line.style === "line" ? 2 : 1, dash: line.style === "dots" ? "dot" : "solid" },
    marker: { size: 5.5, color: line.style === "dots" ? colour(place, "--paper") : main, line: { color: main, width: line.style === "dots" ? 1.5 : 0 } },
    opacity: line.style === "raw" ? 0.28 : 1,
    hoverinfo: line.style === "raw" ? "skip" : "x+y+name",
    hovertemplate: line.style === "raw" ? undefined : `%{y${figure.share ? ":.1%" : ":.4~g"}}<extra>${line.name || ""}</extra>`,
    cliponaxis: line.style === "raw",
  }));
}

function layout(place, figure) {
  const [ink, soft, rule, card] = ["--ink", "--soft", "--line", "--card"].map((name) => colour(place, name));
  const axis = { gridcolor: rule, zeroline: false, tickfont: { color: soft, size: 11 }, fixedrange: false, automargin: true };
  return {
    height: place.clientHeight,
    margin: { l: 44, r: 10, t: 8, b: 26 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 12 },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: card, bordercolor: rule, font: { color: ink, size: 12 } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    uirevision: "kept",
    xaxis: { ...axis, showgrid: false, rangemode: "tozero", tickformat: ",d", nticks: 6, hoverformat: "step ,d" },
    yaxis: { ...axis, range: figure.range, tickformat: figure.share ? ".2~%" : undefined, nticks: 6 },
    shapes: figure.guides.map((guide) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: guide.height, y1: guide.height, line: { color: soft, width: 1, dash: "dash" } })),
    annotations: figure.guides.map((guide) => ({ xref: "paper", x: 1, y: guide.height, text: guide.name, showarrow: false, xanchor: "right", yanchor: "bottom", font: { size: 11, color: soft } })),
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of document.querySelectorAll(".plot")) if (place.figure) draw(place, place.figure);
});

/** Models by strength: a filled mark as they are, a hollow one at equal length of the answers. */
export async function ladder(place, models) {
  const Plotly = await plotly();
  const [ink, soft, rule, paper, card] = ["--ink", "--soft", "--line", "--paper", "--card"].map((name) => colour(place, name));
  const traces = models.flatMap((model, i) => ["plain", "at_equal_length"].map((kind, k) => {
    const [strength, low, high] = model[kind];
    const c = colour(place, `--${model.css}`);
    return {
      x: [strength], y: [models.length - i - (k ? 0.22 : -0.02)], mode: "markers", name: k ? "at equal length" : model.name,
      marker: { size: 11, color: k ? paper : c, line: { color: c, width: 2 } },
      error_x: { type: "data", symmetric: false, array: [high - strength], arrayminus: [strength - low], color: c, thickness: 2, width: 0 },
      hovertemplate: `%{x:.2f} nats (${low.toFixed(2)} to ${high.toFixed(2)})<extra>${k ? "at equal length" : ""}</extra>`,
    };
  }));
  await Plotly.react(place, traces, {
    height: place.clientHeight, showlegend: false, hovermode: "closest", dragmode: false,
    margin: { l: 76, r: 16, t: 6, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13 },
    hoverlabel: { bgcolor: card, bordercolor: rule, font: { color: ink } },
    xaxis: { gridcolor: rule, zeroline: true, zerolinecolor: soft, tickfont: { color: soft, size: 11 }, nticks: 7, fixedrange: true },
    yaxis: { tickvals: models.map((_, i) => models.length - i - 0.1), ticktext: models.map((model) => model.name), range: [0.4, models.length + 0.5], showgrid: false, zeroline: false, fixedrange: true },
  }, { displayModeBar: false, responsive: true });
  matchMedia("(prefers-color-scheme: dark)").onchange = () => ladder(place, models);
}
