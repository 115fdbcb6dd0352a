"use strict";
// Everything that a model or a dataset wrote is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25;
  const state = { router: "", threshold: "", outcome: "", text: "", page: 0 };
  for (const label of data.labels) state["label:" + label] = "";

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") node.className = value; else if (name === "text") node.textContent = value; else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const number = (value, digits = 3) => (value === null || value === undefined ? "–" : String(+value.toPrecision(digits)));
  const percent = (value) => (value === null ? "–" : value.toFixed(value < 10 ? 1 : 0) + "%");
  const color = (model) => "m" + (data.colors[model] ?? 3);
  const outcome = (trace) => (trace.error ? "failed" : trace.correct ? "right" : "wrong");

  const matches = (trace) => {
    const problem = data.problems[trace.problem];
    if (state.router && trace.router !== state.router) return false;
    if (state.threshold !== "" && String(trace.threshold) !== state.threshold) return false;
    if (state.outcome === "mixed" ? new Set(trace.steps.map((step) => step.model)).size < 2 : state.outcome && outcome(trace) !== state.outcome) return false;
    for (const label of data.labels) if (state["label:" + label] && problem.labels[label] !== state["label:" + label]) return false;
    if (!state.text) return true;
    const words = [problem.id, problem.question, trace.answer, ...trace.steps.map((step) => step.text)].join("\n").toLowerCase();
    return words.includes(state.text.toLowerCase());
  };

  const choice = (key, name, options) => {
    const select = make("select", { "aria-label": name });
    select.append(make("option", { value: "", text: name }));
    for (const option of options) select.append(make("option", { value: String(option), text: key === "threshold" ? "at " + number(option) : String(option) }));
    select.value = state[key];
    select.addEventListener("change", () => { state[key] = select.value; if (key === "router") state.threshold = ""; state.page = 0; build(); });
    return select;
  };

  const build = () => {
    const filters = document.getElementById("filters");
    const order = (values) => [...new Set(values)].sort((a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b)) : a - b));
    filters.replaceChildren(choice("router", "any router", [...new Set(data.traces.map((trace) => trace.router))]));
    if (state.router) {
      const thresholds = order(data.traces.filter((trace) => trace.router === state.router && trace.threshold !== null).map((trace) => trace.threshold));
      if (thresholds.length > 1) filters.append(choice("threshold", "any threshold", thresholds));
    }
    filters.append(choice("outcome", "any outcome", ["right", "wrong", "failed", "mixed"]));
    for (const label of data.labels) {
      filters.append(choice("label:" + label, "any " + label, order(data.problems.map((problem) => problem.labels[label]).filter((value) => value !== undefined))));
    }
    const search = make("input", { type: "search", placeholder: "search", "aria-label": "search", value: state.text });
    search.addEventListener("input", () => { state.text = search.value; state.page = 0; show(); });
    filters.append(search);
    show();
  };

  const show = () => {
    const found = data.traces.filter(matches);
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const count = document.getElementById("count");
    const turn = (text, step) => {
      const button = make("button", { type: "button", text });
      button.disabled = state.page + step < 0 || state.page + step >= pages;
      button.addEventListener("click", () => { state.page += step; show(); });
      return button;
    };
    count.replaceChildren(`${found.length} chains`);
    if (pages > 1) count.append(turn("previous", -1), `page ${state.page + 1} of ${pages}`, turn("next", 1));
    document.getElementById("list").replaceChildren(...found.slice(state.page * PAGE, (state.page + 1) * PAGE).map(card));
  };

  const card = (trace) => {
    const problem = data.problems[trace.problem];
    const mark = { right: "✓ ", wrong: "✗ ", failed: "! " }[outcome(trace)];
    const strip = make("span", { class: "strip", title: "the steps, by writer" }, ...trace.steps.slice(0, 40).map((step) => make("i", { class: color(step.model) })));
    const head = make("summary", {}, make("strong", { text: trace.router + (trace.threshold === null ? "" : " at " + number(trace.threshold)) }),
      make("span", { class: trace.correct ? "right" : "wrong", text: mark + (trace.answer || "no answer").slice(0, 40) }),
      make("span", { class: "meta", text: "cost " + percent(trace.cost) }), strip, make("span", { class: "q", text: problem.question }));
    const details = make("details", { class: "trace" }, head);
    details.addEventListener("toggle", () => { if (details.open && details.children.length === 1) details.append(body(trace, problem)); });
    return details;
  };

  const body = (trace, problem) => {
    const about = [`gold answer ${problem.gold}`, problem.id, ...Object.entries(problem.labels).map(([name, value]) => `${name} ${value}`)];
    if (trace.stop && trace.stop !== "answered") about.push(`stopped: ${trace.stop}`);
    if (trace.sample) about.push(`sample ${trace.sample}`);
    return make("div", { class: "body" },
      make("div", { class: "question" }, problem.question.trim(), make("p", { class: "note", text: about.join(" · ") })),
      make("ol", {}, ...trace.steps.map((step) => line(step, trace))),
      trace.error ? make("p", { class: "error", text: trace.error }) : null,
      trace.graded ? make("p", { class: "note", text: "graded by a model: " + trace.graded }) : null);
  };

  const line = (step, trace) => {
    const score = step.score === null ? "" : ` · score ${number(step.score)}` + (trace.threshold === null ? "" : ` ${step.score >= trace.threshold ? "≥" : "<"} ${number(trace.threshold)}`);
    const signals = Object.entries(step.signals).map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`);
    return make("li", { class: color(step.model) },
      make("div", { class: "text", text: step.text.trim() }),
      step.draft ? make("del", { text: step.draft.trim() }) : null,
      make("details", {}, make("summary", {}, make("b", { text: step.model }), `${score} · cost ${percent(step.cost)}`),
        make("div", { text: [step.reason, ...signals].filter(Boolean).join(" · ") })));
  };

  build();
})();
