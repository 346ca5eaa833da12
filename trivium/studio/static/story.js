// The story page: asks every two seconds what is new, and changes only that.

import { ask, attempt, el, find, first, isTyping, listKeys, percent, tell } from "./studio.js";
import { draw } from "./charts.js";

const PAUSE = 2000; // ms between looks while something is at work
const REST = 8000; // while nothing is

const told = first();
const phases = new Map(); // by name, in the order of the journal
let cursor = "";
let chosen = ""; // the phase whose curves are shown; empty: the newest
let shape = ""; // which models stand: when that changes the page is another
let timer = 0;

function take(news) {
  cursor = news.cursor;
  for (const phase of news.phases) phases.set(phase.name, phase);
  showState(news.state);
  if (news.stations.length) showStations(news.stations);
  showTabs();
  const shown = shownPhase();
  if (shown && (news.phases.includes(shown) || find("plots").dataset.phase !== shown.name)) showCurves(shown);
  const now = JSON.stringify([news.stations.map((stop) => stop.status === "done"), news.state.finished ?? false]);
  if (shape && shape !== now && !document.querySelector("dialog[open]")) return location.reload(); // new answers, new rounds
  shape = now;
  return undefined;
}

function showState(state) {
  find("now-title").textContent = state.title;
  find("now-detail").textContent = state.detail || "\u00a0";
  document.title = `${state.share !== undefined && state.working ? `${percent(state.share)} · ` : ""}${state.title} – Trivium`;
  const gauge = find("gauge");
  gauge.hidden = state.share === undefined;
  if (!gauge.hidden) {
    gauge.className = `gauge ${phases.get(state.phase)?.css ?? "base"}`;
    gauge.firstElementChild.style.transform = `scaleX(${state.share})`;
    gauge.setAttribute("aria-valuenow", Math.round(100 * state.share));
  }
  find("how-to-start")?.toggleAttribute("hidden", state.working);
  find("complaint").hidden = !state.complaint;
  find("complaint").textContent = state.complaint;
  if (find("now-do")) showButtons(state);
}

let buttons = "";
function showButtons(state) {
  const kind = state.working ? "pause" : state.finished ? "round" : phases.size ? "resume" : "start";
  if (kind === buttons) return;
  buttons = kind;
  const made = {
    pause: () => [el("button", { id: "pause", onclick: pause }, "Pause", el("kbd", {}, "p"))],
    resume: () => [el("button", { id: "go", class: "primary", onclick: () => go({}) }, "Go on")],
    start: () => [el("button", { id: "go", class: "primary", onclick: () => go({}) }, "Start")],
    round: () => [el("button", { id: "go", class: "primary", onclick: openRound }, "Start the next round")],
  }[kind]();
  find("now-do").replaceChildren(...made);
}

async function go(order) {
  const started = await attempt(() => ask("/api/work", order));
  if (!started) return;
  tell("Started. You may close this page; it goes on.");
  await look();
}

async function pause() {
  find("pause").disabled = true;
  const asked = await attempt(() => ask("/api/work/pause", {}));
  if (asked) tell("It saves and stops after this step.");
  else find("pause").disabled = false;
}

function openRound() {
  const dialog = el("dialog", { "aria-labelledby": "round-title" });
  const people = el("input", { type: "checkbox", id: "people-only", checked: told.people_only });
  const start = el("button", { class: "primary", id: "round-start" }, "Start the round");
  start.addEventListener("click", async () => {
    dialog.close();
    await go({ next_round: true, people_only: told.judged ? people.checked : null });
  });
  dialog.append(
    el("h2", { id: "round-title" }, "The next round"),
    el("p", {}, "All votes so far train a new reward model, and the policy learns to please it. It takes a few minutes on a small model; you may close this page."),
    told.judged ? el("p", { class: "actions" }, el("label", { class: "check" }, people, "People’s votes only, without the simulated judge")) : "",
    el("p", { class: "actions" }, start, el("button", { onclick: () => dialog.close() }, "Not yet")),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  start.focus();
}

function showStations(stations) {
  for (const stop of stations) {
    const place = document.querySelector(`#road li[data-name="${stop.name}"]`);
    if (!place) continue;
    place.dataset.status = stop.status;
    setText(place.querySelector(".figure"), stop.figure);
    setText(place.querySelector(".told span"), stop.told);
    const way = place.querySelector(".way span");
    if (way) setText(way, stop.status === "running" ? percent(stop.share) : stop.status === "to come" ? "to come" : stop.road_told);
  }
}

function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const shownPhase = () => phases.get(chosen) ?? [...phases.values()].at(-1);

function showTabs() {
  const shown = shownPhase();
  find("no-curves").hidden = phases.size > 0;
  const state = JSON.stringify([[...phases.keys()], shown?.name]);
  if (find("tabs").dataset.state === state) return;
  find("tabs").dataset.state = state;
  const tabs = [...phases.values()].map((phase) =>
    el("button", { role: "tab", class: phase.css, "aria-selected": String(phase === shown), tabindex: phase === shown ? 0 : -1, onclick: () => choose(phase.name) }, phase.title),
  );
  find("tabs").replaceChildren(...tabs);
  find("tabs").hidden = !tabs.length;
}

function choose(name) {
  chosen = name;
  showTabs();
  showCurves(shownPhase());
  find("tabs").querySelector("[aria-selected=true]").focus();
}

find("tabs").addEventListener("keydown", (event) => {
  const names = [...phases.keys()];
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose(names[(names.indexOf(shownPhase().name) + step + names.length) % names.length]);
});

function showCurves(phase) {
  setText(find("phase-told"), phase.told);
  find("phase-facts").replaceChildren(...phase.facts.map((fact) => el("span", {}, fact)));
  const plots = find("plots");
  plots.className = `plots ${phase.css}`;
  const titles = JSON.stringify(phase.figures.map((figure) => figure.title));
  if (plots.dataset.phase !== phase.name || plots.dataset.titles !== titles) {
    plots.dataset.phase = phase.name;
    plots.dataset.titles = titles;
    plots.replaceChildren(...phase.figures.map((figure) =>
      el("figure", {}, el("figcaption", {}, el("b", {}, figure.title), ` ${figure.told}`), el("div", { class: "plot waiting", role: "img", "aria-label": figure.label })),
    ));
  }
  const places = [...plots.querySelectorAll(".plot")];
  attempt(async () => {
    for (const [i, figure] of phase.figures.entries()) if (places[i]) await draw(places[i], figure);
  });
}

async function look() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") {
    try {
      take(await ask(`/api/story?since=${encodeURIComponent(cursor)}`));
    } catch (reason) {
      if (reason.status === 401) return location.reload();
      find("now-detail").textContent = reason.message;
    }
  }
  timer = setTimeout(look, buttons === "pause" ? PAUSE : REST);
  return undefined;
}

document.addEventListener("visibilitychange", look);
document.addEventListener("keydown", (event) => {
  if (event.key === "p" && !isTyping(event) && !event.ctrlKey && !event.metaKey) find("pause")?.click();
});
listKeys([[["p"], "pause"], [["←", "→"], "the phases, when one has the focus"]]);
take(told);
timer = setTimeout(look, PAUSE);
