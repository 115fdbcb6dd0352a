// What the parts of the page share. Whatever a model writes goes through textContent only, so that it is
// text and never markup.

export const $ = (id) => document.getElementById(id);
export const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`);
export const round = (value) => Number(value.toPrecision(3)).toString().replace("-", "−");
export const amount = (value) => value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
export const clip = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);
export const colour = (models, model) => `m${Math.max(0, models.indexOf(model)) % 5}`;

export function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}
