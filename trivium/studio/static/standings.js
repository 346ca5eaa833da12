// Models on one line by strength, with their intervals. Drawn by Plotly like the curves.

import { attempt, el, find, first } from "./studio.js";
import { ladder } from "./charts.js";

const told = first();
const place = el("div", { class: "plot", role: "img", "aria-label": told.models.map((model) => `${model.name} ${model.plain[0]}`).join("; ") });
place.style.height = `${4 + 3.6 * told.models.length}rem`;
find("ladder").append(place);
attempt(() => ladder(place, told.models));
