// What was expected of each model before the start, and who then wrote.

import { $, colour, element, percent } from "./elements.js";

export function showEstimates(models, estimates, writers = new Set()) {
  if (!estimates.length) return;
  const outside = estimates.some((estimate) => estimate.outside);
  $("outside").hidden = !outside;
  $("estimates").replaceChildren(...estimates.map((estimate) => row(models, estimate, estimates.at(-1).cost, writers)));
  $("forecast").hidden = false;
}

function row(models, { model, p_correct, p_interval, tokens, interval, cost }, large, writers) {
  const made = element("tr");
  const name = element("th");
  name.scope = "row";
  name.append(element("span", model, `dot ${colour(models, model)}`), " ", element("small", wrote(model, writers)));
  made.append(
    name,
    cell(percent(p_correct), p_interval?.map(percent)),
    cell(Math.round(tokens), interval.map(Math.round)),
    cell(percent(large && cost / large)),
  );
  if (model === [...writers][0]) made.className = "first";
  return made;
}

function cell(value, interval) {
  const made = element("td", value);
  if (interval) made.append(" ", element("small", interval.join(" to ")));
  return made;
}

// The chosen model writes the answer, or begins it where another router goes on.
function wrote(model, writers) {
  const place = [...writers].indexOf(model);
  if (place < 0) return "";
  if (writers.size === 1) return "wrote the answer";
  return place ? "went on" : "began the answer";
}
