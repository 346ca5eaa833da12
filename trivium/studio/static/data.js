// What the model saw, and the votes: search, leaf, export.

import { ask, attempt, el, find, first, isTyping, listKeys } from "./studio.js";

const { sorts, exports } = first();
let sort = named() ?? sorts[0].key;
let page = 0;
let last = 0;
let asking = null;

/** What the address asks for, where it is one of these. */
function named() {
  return sorts.find(({ key }) => key === location.hash.slice(1))?.key;
}

async function look() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const query = new URLSearchParams({ words: find("words").value, page });
  if (sort === "votes") {
    query.set("choice", find("choice").value);
    query.set("rater", find("rater").value);
  } else query.set("sort", sort);
  const found = await attempt(() => ask(`/api/${sort === "votes" ? "votes" : "data"}?${query}`, undefined, { signal }));
  if (!found) return;
  const { told } = sorts.find(({ key }) => key === sort);
  find("told").textContent = told;
  last = Math.max(0, Math.ceil(found.total / found.of) - 1);
  const made = sort === "votes" ? found.votes.map(showVote) : found.records.map(showRecord);
  find("found").replaceChildren(...(made.length ? made : [el("p", { class: "empty" }, find("words").value ? "Nothing has these words." : sorts.find(({ key }) => key === sort).empty)]));
  const count = el("span", {}, found.total ? `${(page * found.of + 1).toLocaleString("en")} to ${Math.min(found.total, (page + 1) * found.of).toLocaleString("en")} of ${found.total.toLocaleString("en")}` : "");
  find("pager").replaceChildren(el("button", { disabled: page === 0, onclick: () => turn(-1) }, "Earlier"), count, el("button", { disabled: page >= last, onclick: () => turn(1) }, "Later"));
  if (found.raters && find("rater").options.length === 1) find("rater").append(...found.raters.map((name) => el("option", { value: name }, name)));
}

function showRecord(record) {
  const text = el("p", { class: "seen", dir: "auto" });
  for (const [token, kind] of record.tokens) text.append(el("span", { class: `tok-${kind}` }, token));
  return el("article", { class: "record" }, el("h3", {}, record.title, el("small", {}, record.told)), text);
}

const TOLD = { first: "the first is better", second: "the second is better", tie: "a tie", both_bad: "both are bad", skip: "skipped" };

function showVote(vote) {
  const answers = ["first", "second"].map((name) =>
    el("p", { class: vote.choice === name ? "better" : "", dir: "auto" }, vote[name] || el("i", {}, "says nothing"), vote.choice === name ? el("span", { class: "visually-hidden" }, " (chosen)") : null));
  return el("article", { class: `record vote-record${vote.withdrawn ? " withdrawn" : ""}` },
    el("p", { class: "prompt", dir: "auto" }, vote.prompt || el("i", {}, "no prompt")),
    el("div", { class: "two" }, ...answers),
    vote.comment ? el("p", { class: "said-why", dir: "auto" }, `“${vote.comment}”`) : null,
    el("p", { class: "facts" }, ...[vote.withdrawn ? "taken back" : TOLD[vote.choice], vote.rater, `round ${vote.round}`, vote.seconds ? `${vote.seconds.toFixed(1)} s` : "", vote.at].filter(Boolean).map((fact) => el("span", {}, fact))));
}

function turn(step) {
  const next = Math.min(last, Math.max(0, page + step));
  if (next === page) return;
  page = next;
  look().then(() => find("seek").scrollIntoView({ block: "start" }));
}

function choose(name, focus = false) {
  sort = name;
  page = 0;
  history.replaceState(null, "", `#${name}`);
  for (const tab of find("sorts").children) {
    const mine = tab.dataset.sort === name;
    tab.setAttribute("aria-selected", String(mine));
    tab.tabIndex = mine ? 0 : -1;
    if (mine && focus) tab.focus();
  }
  const votes = name === "votes";
  find("filters").hidden = !votes;
  find("legend").hidden = votes;
  find("exports").hidden = !votes;
  look();
}

for (const tab of find("sorts").children) tab.addEventListener("click", () => choose(tab.dataset.sort));
find("sorts").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  const names = sorts.map(({ key }) => key);
  choose(names[(names.indexOf(sort) + step + names.length) % names.length], true);
});
addEventListener("hashchange", () => named() && choose(named()));
let waiting = 0;
find("words").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => ((page = 0), look()), 250);
});
find("seek").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["choice", "rater"]) find(id).addEventListener("change", () => ((page = 0), look()));
find("exports").append("Take all votes along as ", ...exports.flatMap(({ key, title }, i) => [i ? ", " : "", el("a", { href: `/api/votes/export?form=${key}`, download: true }, title)]));
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "/") {
    event.preventDefault();
    find("words").focus();
  } else if (event.key === "j") turn(1);
  else if (event.key === "k") turn(-1);
});
listKeys([[["/"], "look for words"], [["j", "k"], "later, earlier"]]);
choose(sort);
