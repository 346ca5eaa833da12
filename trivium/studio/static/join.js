// Coming in: by an invitation, whose secret stands behind the # of the address and is sent once, or by name and password.

import { ask, attempt, find, tell } from "./studio.js";

function onSubmit(form, work) {
  find(form)?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const person = await attempt(work);
    if (person) await welcome(person, form);
  });
}

async function welcome(person, form) {
  if (form !== "renew") location.replace(person.role === "rater" ? "/vote" : "/");
  else {
    find("password").value = "";
    tell("Kept. You can sign in by it anywhere.");
  }
}

const value = (id) => find(id).value;
onSubmit("join", () => ask("/api/join", { secret: location.hash.slice(1) || "-", name: value("name"), password: value("password") || null }));
onSubmit("enter", () => ask("/api/enter", { name: value("name"), password: value("password") }));
onSubmit("renew", () => ask("/api/password", { password: value("password") }, { method: "PUT" }));
find("leave")?.addEventListener("click", async () => {
  if (await attempt(() => ask("/api/leave", {}))) location.replace("/enter");
});
