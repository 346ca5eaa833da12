// Voting: one key a pair. The next pairs are here before the vote is cast; a vote goes out in the background, under a
// key of its own, again and again until the server has it.

import { ask, attempt, el, find, first, isTyping, listKeys, tell } from "./studio.js";

const AHEAD = 3; // pairs in hand beside the one that is shown
const TOO_SOON = 220; // ms in which nobody can have read a pair: a key pressed twice is no second vote
const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", t: "tie", b: "both_bad", s: "skip" };
const TOLD = { left: "1 is better", right: "2 is better", tie: "a tie", both_bad: "both bad", skip: "skipped" };

const begun = first();
let hand = begun.pairs; // the first one is shown
let shownAt = 0;
let fetching = null;
let unsent = 0;
let sending = Promise.resolve();
const cast = []; // votes of this visit that are stored: their numbers, pairs and comments; the newest last
const asked = new Set(hand.map((pair) => pair.id)); // in hand or voted on

// The pair

function show() {
  const pair = hand[0];
  const ballot = find("ballot");
  find("undo").disabled = !cast.length && !unsent;
  for (const button of document.querySelectorAll("[data-choice], #comment")) button.disabled = !pair;
  if (!pair) {
    const empty = begun.empty && !fetching;
    ballot.replaceChildren(el("p", { class: "waiting" }, empty ? "There is no prompt left that you have not voted on." : "Two answers are being written …"));
    return;
  }
  const alone = pair.prompt.length ? null : el("p", { class: "asked-turn none" }, "No prompt: two texts by themselves");
  const turns = el("div", { class: "turns" }, alone, ...pair.prompt.map((turn) =>
    el("p", { class: `asked-turn ${turn.role}`, dir: "auto" }, pair.prompt.length > 1 ? el("small", {}, turn.role) : null, turn.content)));
  const sides = ["left", "right"].map((side, i) =>
    el("button", { class: "answer", "data-choice": side, "aria-label": `Answer ${i + 1}: ${pair[side]}`, onclick: () => vote(side) },
      el("span", { class: "number", "aria-hidden": "true" }, el("kbd", {}, i ? "→" : "←"), String(i + 1)),
      pair[side] ? el("span", { class: "text", dir: "auto" }, pair[side], pair.ended?.[i] === false ? el("i", {}, " … goes on") : null) : el("span", { class: "text nothing" }, "says nothing")));
  ballot.replaceChildren(turns, el("div", { class: "answers" }, ...sides));
  ballot.dataset.pair = pair.id;
  shownAt = performance.now();
}

function vote(choice) {
  const pair = hand[0];
  const seconds = (performance.now() - shownAt) / 1000;
  if (!pair || seconds * 1000 < TOO_SOON) return;
  const comment = find("remark-text").value;
  hand = hand.slice(1);
  find("remark-text").value = "";
  find("remark").hidden = true;
  post({ showing: pair.id, shown: choice, seconds, comment, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` }, pair, choice);
  show();
  refill();
}

/** Votes go out one after the other, in the order in which they were cast. */
function post(sent, pair, choice) {
  unsent += 1;
  sending = sending.then(async () => {
    for (let wait = 500; ; wait = Math.min(8000, 2 * wait)) {
      try {
        const stored = await ask("/api/votes", sent);
        showGoal(stored, TOLD[choice]);
        cast.push({ number: stored.vote, pair, comment: sent.comment });
        break;
      } catch (reason) {
        if (reason.status && reason.status < 500 && reason.status !== 429) {
          tell(reason.message, { bad: true });
          break;
        }
        tell("Your vote is not stored yet; trying again …", { bad: true, seconds: wait / 1000 });
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    unsent -= 1;
    find("undo").disabled = !cast.length && !unsent;
  });
}

/** In its turn among the votes, so that it takes back the one that was the last when it was asked for. Asked again after
    a failure, it takes back the same one. */
function undo() {
  sending = sending.then(async () => {
    const last = cast.at(-1);
    if (!last) return;
    const told = await attempt(() =>
      ask("/api/votes/undo", { key: `undo-${last.number}`, vote: last.number }).catch((reason) => {
        if (reason.status === 409) cast.pop(); // it was taken back elsewhere
        throw reason;
      }));
    if (told) {
      cast.pop();
      hand = [last.pair, ...hand];
      find("remark-text").value = last.comment;
      find("remark").hidden = !last.comment;
      showGoal(told, "taken back");
    }
    show();
  });
}

/** Fetch pairs until there are enough in hand. */
async function refill() {
  if (fetching || hand.length > AHEAD) return;
  fetching = ask(`/api/pairs?count=${Math.min(12, hand.length + unsent + 3)}`);
  try {
    const found = await fetching;
    const fresh = found.pairs.filter((pair) => !asked.has(pair.id));
    for (const pair of fresh) asked.add(pair.id);
    begun.empty = found.empty;
    const waited = !hand.length;
    hand = [...hand, ...fresh];
    fetching = null;
    if (waited) show();
    if (hand.length <= AHEAD && !found.empty) setTimeout(refill, fresh.length ? 200 : 900);
  } catch (reason) {
    fetching = null;
    if (!hand.length) tell(reason.message, { bad: true });
    setTimeout(refill, 3000);
  }
}

function showGoal(told, stored = "") {
  const { progress } = told;
  const inside = el("span", {});
  inside.style.transform = `scaleX(${Math.min(1, progress.votes / progress.goal)})`;
  find("goal").replaceChildren(
    el("p", {}, el("b", { id: "count" }, progress.votes.toLocaleString("en")), ` of ${progress.goal.toLocaleString("en")} votes`, el("span", { class: "meaning" }, progress.meaning)),
    el("div", { class: "gauge aligned", role: "progressbar", "aria-valuenow": progress.votes, "aria-valuemax": progress.goal }, inside),
    el("p", { class: "stored" }, stored ? `Stored: ${stored}` : `${progress.mine.toLocaleString("en")} of them yours`),
  );
}

// Keys, touch

document.addEventListener("keydown", (event) => {
  if (event.target === find("remark-text") && (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey))) {
    event.preventDefault();
    find("remark").hidden = !find("remark-text").value;
    find("remark-text").blur();
    return;
  }
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (KEYS[key]) {
    event.preventDefault();
    vote(KEYS[key]);
  } else if (key === "u") undo();
  else if (key === "c") {
    event.preventDefault();
    comment();
  }
});

function comment() {
  find("remark").hidden = false;
  find("remark-text").focus();
}

for (const button of document.querySelectorAll("#choices [data-choice]")) button.addEventListener("click", () => vote(button.dataset.choice));
find("undo").addEventListener("click", undo);
find("comment").addEventListener("click", comment);
addEventListener("beforeunload", (event) => unsent && event.preventDefault());

// Guidelines

function showGuidelines(text) {
  find("guidelines").replaceChildren(...text.split(/\n\s*\n/).filter((part) => part.trim()).map((part) => el("p", { dir: "auto" }, part.trim())));
}

find("edit")?.addEventListener("click", () => {
  const area = el("textarea", { rows: 12, maxlength: 20000, "aria-label": "Guidelines" });
  area.value = begun.guidelines;
  const save = el("button", { class: "primary" }, "Keep");
  const dialog = el("dialog", { "aria-label": "Guidelines" }, el("h2", {}, "Guidelines for everybody who votes"), area,
    el("p", { class: "actions" }, save, el("button", { onclick: () => dialog.close() }, "Cancel")));
  save.addEventListener("click", async () => {
    const kept = await attempt(() => ask("/api/guidelines", { text: area.value }, { method: "PUT" }));
    if (!kept) return;
    begun.guidelines = area.value;
    showGuidelines(area.value);
    dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});

if (matchMedia("(max-width: 60rem)").matches) find("guide").open = false;
listKeys([[["←", "1"], "the first is better"], [["→", "2"], "the second is better"], [["t"], "a tie"], [["b"], "both bad"], [["s"], "skip"], [["u"], "undo the last vote"], [["c"], "comment"]]);
showGuidelines(begun.guidelines);
showGoal(begun);
show();
refill();
