// The team: invitations are shown once, sessions can be ended.

import { ask, attempt, el, find, first, tell } from "./studio.js";

const day = (iso) => new Date(iso).toLocaleDateString(undefined, { day: "numeric", month: "short" });

function show({ invitations, sessions, people }) {
  find("invitations").replaceChildren(...(invitations.length ? invitations.map((each) =>
    el("div", { class: "line" }, el("b", {}, each.note || "for anybody"), el("span", {}, each.role), el("span", {}, `until ${day(each.expires_at)}`),
      el("button", { class: "plain danger", onclick: () => change(`/api/invitations/${each.id}`) }, "Withdraw"))) : [el("p", { class: "empty" }, "None. Make one above and send its link: it opens once.")]));
  find("sessions").replaceChildren(...sessions.map((each) =>
    el("div", { class: "line" }, el("b", {}, each.name), el("span", {}, each.role), el("span", {}, `${browser(each.agent)}, since ${day(each.created_at)}`),
      each.ours ? el("span", { class: "ours" }, "this browser") : el("button", { class: "plain danger", onclick: () => change(`/api/sessions/${each.id}`) }, "End"))));
  find("people").replaceChildren(...(people.length ? people.map((each) =>
    el("div", { class: "line" }, el("b", {}, each.name), el("span", {}, each.role),
      el("button", { class: "plain danger", onclick: () => shutOut(each) }, "Shut out"))) : [el("p", { class: "empty" }, "Nobody else.")]));
}

function browser(agent) {
  const name = ["Edg", "Firefox", "Chrome", "Safari"].find((each) => agent.includes(each));
  const place = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((each) => agent.includes(each));
  return [name?.replace("Edg", "Edge") ?? "another program", place].filter(Boolean).join(" on ");
}

function shutOut(person) {
  const told = `Shut ${person.name} out? All sessions and invitations of ${person.name} end, and no password opens the door again. The votes stay.`;
  if (confirm(told)) change(`/api/people/${person.id}`);
}

async function change(path) {
  const told = await attempt(() => ask(path, {}, { method: "DELETE" }));
  if (told) show(told);
}

find("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = await attempt(() => ask("/api/invitations", { role: find("role").value, note: find("note").value }));
  if (!told) return;
  show(told);
  const field = el("input", { readonly: true, "aria-label": "The invitation", value: `${location.origin}/join#${told.secret}` });
  const copy = el("button", { onclick: async () => {
    field.select();
    const copied = await navigator.clipboard?.writeText(field.value).then(() => true, () => false);
    // without https a browser has a clipboard on this machine alone: elsewhere the old way
    tell(copied || document.execCommand("copy") ? "Copied. It opens once." : "Copy it by Ctrl and C.");
  } }, "Copy");
  find("link").replaceChildren(el("div", { class: "fill" }, field, copy), el("p", { class: "told" }, "Send this link to one person. It is shown this once, opens once, and ends in a week."));
  find("note").value = "";
});

show(first());
