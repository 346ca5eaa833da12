// The playground: each model has a thread of its own; all are asked at once and answer as fast as they can.

import { ask, attempt, bar, chance, el, find, first, isTyping, lines, listKeys, tell } from "./studio.js";

const KEPT = "trivium-playground";
const kept = JSON.parse(localStorage.getItem(KEPT) || "{}");
const { voices } = first();
const threads = new Map(voices.map((voice) => [voice.name, { voice, messages: [], place: null, stop: null }]));
let on = new Set((kept.on || []).filter((name) => threads.has(name)));
if (!on.size) on = new Set(chosenAtFirst());

/** Base, instruct and the newest round. */
function chosenAtFirst() {
  return [...new Set([voices[0], voices[1], voices.at(-1)].filter(Boolean).map((voice) => voice.name))];
}

function keep() {
  localStorage.setItem(KEPT, JSON.stringify({ on: [...on], knobs: knobs(), tokens: find("show-tokens").checked }));
}

// Settings

const KNOBS = ["temperature", "top_p", "top_k", "max_new_tokens", "seed"];

function knobs() {
  const said = Object.fromEntries(KNOBS.map((name) => [name, Number(find(name).value) || 0]));
  return { ...said, top_k: said.top_k || null, top_p: said.top_p || 1 };
}

for (const name of KNOBS) {
  if (kept.knobs?.[name] != null) find(name).value = kept.knobs[name];
  find(name).addEventListener("input", () => showKnob(name));
  showKnob(name);
}

function showKnob(name) {
  const output = find(name).parentElement.querySelector("output");
  if (output) output.textContent = name === "top_k" && find(name).value === "0" ? "off" : find(name).value;
}

find("show-tokens").checked = Boolean(kept.tokens);
find("show-tokens").addEventListener("change", () => {
  keep();
  threads.forEach(showThread);
});
if (matchMedia("(max-width: 56rem)").matches) find("knobs").open = false;

// Models

function showChips() {
  find("chips").replaceChildren(...voices.map((voice) =>
    el("button", { class: `chip ${voice.css}`, "aria-pressed": String(on.has(voice.name)), onclick: () => toggle(voice.name) }, voice.title),
  ));
}

function toggle(name) {
  if (!on.delete(name)) on.add(name);
  keep();
  showChips();
  showThreads();
}

function showThreads() {
  const shown = voices.filter((voice) => on.has(voice.name)).map((voice) => threads.get(voice.name));
  for (const thread of shown) {
    thread.place ??= el("article", { class: `thread ${thread.voice.css}`, "data-model": thread.voice.name });
    showThread(thread);
  }
  find("threads").replaceChildren(...shown.map((thread) => thread.place));
  if (!shown.length) find("threads").append(el("p", { class: "empty" }, "Choose a model above."));
  find("anew").hidden = ![...threads.values()].some((thread) => thread.messages.length);
}

function showThread(thread) {
  if (!thread.place) return;
  const title = el("h3", {}, thread.voice.title, el("small", {}, thread.voice.chats ? "" : "goes on with your text"));
  const turns = thread.messages.map((message) => {
    const writing = message === thread.writing;
    const place = el("p", { class: `turn ${message.role}${writing ? " writing" : ""}`, dir: "auto" });
    if (message.tokens && find("show-tokens").checked) place.append(...tokensOf(message.tokens)), place.classList.add("tokens");
    else place.textContent = message.content;
    if (message.cut) place.append(el("span", { class: "cut" }, " … goes on"));
    if (message.role === "assistant" && !message.content && !writing) place.append(el("span", { class: "cut" }, "says nothing"));
    return place;
  });
  const last = thread.messages.at(-1);
  thread.place.replaceChildren(title, ...turns, el("p", { class: "measure" }, last?.measure || ""));
}

// Asking

async function send(text) {
  if (!text.trim()) return;
  if (!on.size) return tell("Choose a model first.", { bad: true });
  find("prompt").value = "";
  keep();
  await Promise.all([...on].map((name) => answerOf(threads.get(name), text)));
  return undefined;
}

async function answerOf(thread, text) {
  thread.stop?.abort();
  thread.stop = new AbortController();
  const { signal } = thread.stop;
  if (!thread.voice.chats) thread.messages = []; // it knows no turns
  thread.messages.push({ role: "user", content: text });
  const asked = thread.messages.map(({ role, content }) => ({ role, content }));
  const written = { role: "assistant", content: "" };
  thread.messages.push(written);
  thread.writing = written;
  showThreads();
  try {
    for await (const piece of lines("/api/write", { ...knobs(), model: thread.voice.name, messages: asked }, signal)) {
      if (piece.error) throw new Error(piece.error);
      if (piece.text !== undefined) {
        written.content += piece.text;
        thread.place.querySelector(".turn.writing").textContent = written.content;
      } else {
        Object.assign(written, { tokens: piece.tokens, cut: !piece.done, measure: `${piece.tokens.length} ${piece.tokens.length === 1 ? "token" : "tokens"} in ${piece.seconds < 0.1 ? `${Math.round(1000 * piece.seconds)} ms` : `${piece.seconds.toFixed(1)} s`}` });
        written.content = written.content.trim();
      }
    }
  } catch (reason) {
    if (reason.name !== "AbortError") written.measure = reason.message;
  }
  if (thread.writing === written) thread.writing = null;
  showThread(thread);
}

find("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  send(find("prompt").value);
});
find("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("compose").requestSubmit();
  }
});
for (const button of document.querySelectorAll("[data-example]")) button.addEventListener("click", () => send(button.dataset.example));
find("anew").addEventListener("click", anew);

function anew() {
  for (const thread of threads.values()) {
    thread.stop?.abort();
    Object.assign(thread, { messages: [], writing: null });
  }
  showThreads();
  find("prompt").focus();
}

// Tokens

const DOUBT = [0.9, 0.6, 0.3, 0.1]; // probabilities below which a token is shown in a stronger colour

function tokensOf(tokens) {
  return tokens.map((token) => {
    const doubt = DOUBT.filter((limit) => token.probability < limit).length;
    const place = el("span", { class: `d${doubt}`, tabindex: 0, "aria-label": `${token.text}, ${chance(token.probability)}` }, token.text);
    place.addEventListener("pointerenter", () => showBeside(place, token));
    place.addEventListener("pointerleave", hideBeside);
    place.addEventListener("focus", () => showBeside(place, token));
    place.addEventListener("blur", hideBeside);
    return place;
  });
}

function showBeside(place, token) {
  const rows = token.beside.some(([text]) => text === token.text) ? token.beside : [...token.beside, [token.text, token.probability]];
  const bars = el("div", { class: "bars" });
  for (const [text, share] of rows) {
    const mine = text === token.text ? "this" : "";
    bars.append(el("code", { class: mine }, text.replaceAll("\n", "↵").replace(/^ /, "·")), bar(share), el("span", { class: mine }, chance(share)));
  }
  const box = find("beside");
  box.replaceChildren(bars);
  box.hidden = false;
  const at = place.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8));
  const below = at.bottom + 8 + box.offsetHeight < innerHeight;
  box.style.transform = `translate(${left}px, ${below ? at.bottom + 8 : at.top - box.offsetHeight - 8}px)`;
}

const hideBeside = () => (find("beside").hidden = true);

// Blanks

find("fill").addEventListener("submit", (event) => {
  event.preventDefault();
  fillIn();
});

async function fillIn() {
  const found = await attempt(() => ask("/api/fill", { text: find("blank").value }));
  if (!found) return;
  const chosen = found.texts[0].fillings.slice();
  const sentence = el("p", { class: "sentence", dir: "auto" });
  const show = () => {
    sentence.replaceChildren(found.pieces[0]);
    chosen.forEach((text, i) => sentence.append(text.startsWith(" ") ? " " : "", el("mark", {}, text.trim()), found.pieces[i + 1]));
  };
  const lists = found.blanks.map((blank, number) => {
    const rows = blank.fillings.map((filling) =>
      el("button", { type: "button", class: "candidate", onclick: () => ((chosen[number] = filling.text), show()) },
        el("span", {}, filling.text.trim() || "␣"), bar(filling.probability), el("span", {}, chance(filling.probability))));
    return el("div", {}, el("h4", {}, found.blanks.length > 1 ? `Blank ${number + 1}` : "Candidates"), ...rows);
  });
  show();
  find("filled").replaceChildren(sentence, el("div", { class: "candidates" }, ...lists));
}

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n" && !event.defaultPrevented) anew();
  else if (event.key === "t") find("show-tokens").click();
  else if (event.key === "/") {
    event.preventDefault();
    find("prompt").focus();
  }
});
listKeys([[["↵"], "ask"], [["⇧", "↵"], "a new line"], [["/"], "to the prompt"], [["n"], "a new conversation"], [["t"], "each token’s chance"]]);
showChips();
showThreads();
