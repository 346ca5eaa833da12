// What all pages share: asking the server, making elements, telling people, keys. Text enters a page as text only.

/** An element: properties by name (class, on…, data-…, aria-…), children as nodes or text. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A share of 1 as a bar. */
export function bar(share, label = percent(share, 1)) {
  const inside = el("span", {});
  inside.style.transform = `scaleX(${Math.max(0.004, share)})`;
  return el("span", { class: "meter", role: "img", "aria-label": label }, inside);
}

export const find = (id) => document.getElementById(id);

/** What the server answers, or an Error with the line that it says. */
export async function ask(path, body, { method = body === undefined ? "GET" : "POST", signal } = {}) {
  const answer = await request(path, body, { method, signal });
  return answer.status === 204 ? null : answer.json();
}

async function request(path, body, { method, signal }) {
  const sent = { method, signal, headers: {} };
  if (method !== "GET") {
    sent.headers["Content-Type"] = "application/json";
    sent.body = JSON.stringify(body ?? {});
  }
  let answer;
  try {
    answer = await fetch(path, sent);
  } catch (reason) {
    if (reason.name === "AbortError") throw reason;
    throw new Error("The studio does not answer. Is it still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error || `The studio said ${answer.status}.`), { status: answer.status });
  }
  return answer;
}

/** Lines of JSON as they arrive. */
export async function* lines(path, body, signal) {
  const answer = await request(path, body, { method: "POST", signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

export function tell(text, { bad = false, seconds = bad ? 6 : 2.5 } = {}) {
  const made = el("p", { class: bad ? "toast bad" : "toast" }, text);
  find("toasts").replaceChildren(made);
  setTimeout(() => made.remove(), seconds * 1000);
}

/** Do it, and say so where it does not work. */
export async function attempt(work) {
  try {
    return await work();
  } catch (reason) {
    if (reason.name !== "AbortError") tell(reason.message, { bad: true });
    return undefined;
  }
}

export const first = () => JSON.parse(find("first").textContent);
export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;
/** A probability: to a tenth where it is small, and never nothing. */
export const chance = (share) => (share < 0.0005 ? "<0.1%" : percent(share, share < 0.1 ? 1 : 0));
export const isTyping = (event) => event.target.closest?.("input, textarea, select, [contenteditable]") !== null;

// Keys: g and a letter goes to a page, ? tells what there is.

const mine = [];
/** Keys of this page, for the list that ? shows: [[keys, what they do]]. */
export const listKeys = (rows) => mine.push(...rows);

let going = false;
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (going) {
    going = false;
    const link = [...document.querySelectorAll(".bar nav a")].find((each) => keyOf(each) === event.key.toLowerCase());
    if (link) {
      event.preventDefault();
      event.stopImmediatePropagation();
      location.assign(link.href);
    }
  } else if (event.key === "g") {
    going = true;
    event.stopImmediatePropagation();
    setTimeout(() => (going = false), 1200);
  } else if (event.key === "?") {
    showKeys();
  }
});

/** S is for Story, so Standings answers to n. */
function keyOf(link) {
  return link.pathname === "/standings" ? "n" : link.dataset.key;
}

function showKeys() {
  const pages = [...document.querySelectorAll(".bar nav a")].map((link) => [["g", keyOf(link)], link.textContent]);
  const rows = [...mine, ...pages, [["?"], "this list"]];
  const list = el("dl", {});
  for (const [keys, told] of rows) {
    list.append(el("dt", {}, ...keys.flatMap((key, i) => [i ? " " : "", el("kbd", {}, key)])), el("dd", {}, told));
  }
  const close = el("button", { class: "primary", onclick: () => find("keys").close() }, "Close");
  find("keys").replaceChildren(el("h2", { id: "keys-title" }, "Keys"), list, el("p", { class: "actions" }, close));
  find("keys").showModal();
}

const here = document.querySelector(".bar nav a[aria-current]");
// scrollIntoView would let the first press of Tab begin there, behind the link to the content
if (here) {
  const nav = here.parentElement;
  nav.scrollLeft = here.offsetLeft - nav.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
}
