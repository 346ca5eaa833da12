// Coming in by an invitation: its secret stands behind the # of the address, and is sent once.

import { ask, attempt, find } from "./studio.js";

find("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  const person = await attempt(() => ask("/api/join", { secret: location.hash.slice(1) || "-", name: find("name").value }));
  if (person) location.replace(person.role === "rater" ? "/vote" : "/");
});
