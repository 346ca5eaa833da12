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
    yaxis: { ...axis, range: figure.range, tickformat: figure.share ? ".0%" : undefined, nticks: 6 },
    shapes: figure.guides.map((guide) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: guide.height, y1: guide.height, line: { color: soft, width: 1, dash: "dash" } })),
    annotations: figure.guides.map((guide) => ({ xref: "paper", x: 1, y: guide.height, text: guide.name, showarrow: false, xanchor: "right", yanchor: "bottom", font: { size: 11, color: soft } })),
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of document.querySelectorAll(".plot")) if (place.figure) draw(place, place.figure);
});
