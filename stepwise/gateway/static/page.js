// The page talks to the same endpoints as everybody else. Whatever a model writes goes through
// textContent only, so that it is text and never markup.

const $ = (id) => document.getElementById(id);
const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`);
const round = (value) => Number(value.toPrecision(3)).toString().replace("-", "−");
const amount = (value) => value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
const clip = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);

let server = null; // GET /stepwise/server
let running = null; // AbortController of what is being solved
let stops = []; // positions of the knob, cheapest first
const asked = new Map(); // question by id of its chain: the server need not keep it

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const colour = (model) => `m${Math.max(0, server.models.indexOf(model)) % 5}`;

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body ? "POST" : "GET";
  const answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  if (answer.ok) return answer;
  if (answer.status === 401) $("locked").hidden = false;
  const failure = await answer.json().catch(() => null);
  throw new Error(failure?.error?.message ?? `the server answered ${answer.status}.`);
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

// The server and the knob

async function meet() {
  server = await (await call("/stepwise/server")).json();
  $("locked").hidden = !sessionStorage.getItem("key");
  $("pool").replaceChildren(...server.models.map((model) => element("span", model, `dot ${colour(model)}`)));
  const pick = server.examples.map((text) => new Option(clip(text, 90), text));
  $("examples").replaceChildren(new Option("…", ""), ...pick);
  $("pick").hidden = !pick.length;
  if (!$("question").value && pick.length) $("question").value = server.examples[0];
  layOutKnob();
  await showRecent();
}

function layOutKnob() {
  const [small, large] = [server.models[0], server.models.at(-1)];
  const curve = server.calibration;
  const between = (curve?.threshold ?? []).map((threshold, i) => ({
    model: `stepwise:threshold=${threshold}`,
    cost: curve.cost[i],
    label: `about ${percent(curve.cost[i])} of large-only, ${percent(curve.accuracy[i])} right (${large}: ${percent(curve.large_accuracy)}) on ${curve.n} calibration problems`,
  }));
  const routed = between.filter((stop) => stop.cost < 1).reverse();
  const fallback = { model: "stepwise", label: `as the router ${server.default.router} decides` };
  stops = [
    { model: "stepwise:small", label: `${small} alone` },
    ...(routed.length ? routed : [fallback]),
    { model: "stepwise:large", label: `${large} alone: 100%` },
  ];
  $("knob").max = stops.length - 1;
  $("cheap").textContent = `${small} only`;
  $("dear").textContent = `${large} only`;
  useDefault();
}

function useDefault() {
  const threshold = server.default.threshold;
  const distance = (stop) => Math.abs(Number(stop.model.split("=")[1]) - threshold);
  const routed = stops.slice(1, -1).map((stop, i) => [distance(stop), i + 1]).filter(([far]) => !Number.isNaN(far));
  $("knob").value = routed.length && threshold != null ? routed.sort((a, b) => a[0] - b[0])[0][1] : Math.floor(stops.length / 2);
  $("default").setAttribute("aria-pressed", "true");
  const budget = server.budget == null ? "" : `, kept at ${percent(server.budget)} of large-only while traffic drifts`;
  tell(`${server.default.router}${budget}`);
}

function turn() {
  $("default").setAttribute("aria-pressed", "false");
  tell(stops[$("knob").value].label);
}

function tell(text) {
  $("promise").textContent = text;
  $("knob").setAttribute("aria-valuetext", text);
}

const chosen = () => ($("default").getAttribute("aria-pressed") === "true" ? "stepwise" : stops[$("knob").value].model);

// Solving

async function solve(event) {
  event?.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  if ($("key").value) sessionStorage.setItem("key", $("key").value);
  running = new AbortController();
  $("run").disabled = true;
  $("stop").disabled = false;
  say("thinking …");
  try {
    if (!server) await meet();
    const knobs = $("whatif").checked ? [chosen(), "stepwise:small", "stepwise:large"] : [chosen()];
    $("chains").replaceChildren();
    await forecast(question, running.signal);
    const chains = [...new Set(knobs)].map((knob) => new Chain(knob));
    $("chains").replaceChildren(...chains.map((chain) => chain.root));
    const ends = await Promise.allSettled(chains.map((chain) => chain.follow(question, running.signal)));
    const failure = ends.find((end) => end.status === "rejected");
    if (failure) throw failure.reason;
    say(`done: ${chains[0].verdict}`);
  } catch (error) {
    say(error.name === "AbortError" ? "stopped" : error.message, error.name !== "AbortError");
  } finally {
    running = null;
    $("run").disabled = false;
    $("stop").disabled = true;
    showRecent().catch(() => {});
  }
}

async function forecast(question, signal) {
  $("forecast").hidden = true;
  if (!server.estimates) return;
  const { estimates } = await (await call("/stepwise/estimate", { question }, signal)).json();
  const shown = estimates.map((estimate) => {
    const line = element("span", "", `dot ${colour(estimate.model)}`);
    const chance = element("b", percent(estimate.p_correct));
    line.append(`${estimate.model}: `, chance, ` likely right, about ${Math.round(estimate.tokens)} tokens`);
    return line;
  });
  $("forecast").replaceChildren(element("span", "Before the start:"), ...shown);
  $("forecast").hidden = false;
}

class Chain {
  constructor(knob) {
    this.knob = knob;
    this.root = $("chain").content.firstElementChild.cloneNode(true);
    const alone = { "stepwise:small": server.models[0], "stepwise:large": server.models.at(-1) }[knob];
    this.root.querySelector("h2").textContent = alone ? `${alone} alone` : knob;
    this.list = this.root.querySelector("ol");
    this.line = null; // the step that is being written
    this.verdict = "";
  }

  async follow(question, signal) {
    const messages = [{ role: "user", content: question }];
    try {
      const answer = await call("/v1/chat/completions", { model: this.knob, messages, stream: true }, signal);
      for await (const event of events(answer.body)) {
        if (event.error) throw new Error(event.error.message);
        for (const choice of event.choices) this.take(choice, event.id, question);
      }
    } catch (error) {
      const shown = this.root.querySelector(".failure");
      shown.textContent = error.name === "AbortError" ? "stopped" : error.message;
      shown.hidden = false;
      throw error;
    } finally {
      this.line?.classList.remove("writing");
    }
  }

  take(choice, id, question) {
    const { step, model } = choice.stepwise;
    if (choice.delta.content) this.write(choice.delta.content, model);
    if (step) this.close(step, choice.stepwise);
    if (choice.finish_reason) {
      asked.set(`${id.replace("chatcmpl-", "")}-0`, question);
      this.finish(choice.stepwise);
    }
  }

  write(text, model) {
    if (!this.line) {
      this.line = element("li", "", `writing ${colour(model)}`);
      this.line.append(element("div", "", "text"));
      this.list.append(this.line);
    }
    this.line.firstChild.textContent += text;
  }

  close(step, { threshold, cost_share }) {
    if (!this.line) this.write("", step.model);
    const line = this.line;
    line.classList.remove("writing");
    line.firstChild.textContent = step.text.trimEnd();
    if (step.draft) {
      const rejected = element("del", step.draft.text.trimEnd());
      rejected.title = `draft of ${step.draft.model}`;
      line.append(rejected);
    }
    const why = element("div", "", "why");
    why.append(element("b", step.model));
    if (step.score != null && threshold != null) {
      why.append(gauge(step.score, threshold));
      why.append(element("span", `score ${round(step.score)} ${step.score >= threshold ? "≥" : "<"} ${round(threshold)}`));
    } else if (step.reason) why.append(element("span", step.reason));
    why.append(element("span", `${step.tokens} tokens`));
    line.append(why);
    this.line = null;
    this.meter(cost_share);
  }

  finish(summary) {
    this.verdict = `${summary.answer || "no answer"}, at ${percent(summary.cost_share)} of large-only`;
    this.root.querySelector(".answer").textContent = summary.answer ? `answer: ${summary.answer}` : "no answer";
    this.meter(summary.cost_share);
    this.root.querySelector(".more").textContent =
      ` · ${amount(summary.cost)} ${summary.cost_unit} · ${summary.switches} ${summary.switches === 1 ? "switch" : "switches"}` +
      (summary.stop === "answered" ? "" : ` · ended: ${summary.stop}`);
  }

  meter(share) {
    const meter = this.root.querySelector(".meter");
    meter.setAttribute("aria-valuenow", Math.min(100, Math.round(100 * share)));
    meter.setAttribute("aria-valuetext", percent(share));
    meter.querySelector("b").textContent = percent(share);
    meter.querySelector("i").style.width = `${Math.min(100, 100 * share)}%`;
    meter.querySelector(".bar").classList.toggle("over", share > 1.1);
  }
}

// Where the score lies against the threshold, on a scale with the threshold in its middle.
function gauge(score, threshold) {
  const made = element("span", "", "gauge");
  made.setAttribute("aria-hidden", "true");
  const dot = element("i");
  const place = 0.5 + Math.atan(score - threshold) / Math.PI;
  dot.style.left = `${100 * place}%`;
  const tick = element("u");
  tick.style.left = "50%";
  made.append(tick, dot);
  return made;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// Recent requests

async function showRecent() {
  const { recent } = await (await call("/stepwise/recent")).json();
  if (recent.length) $("recent").replaceChildren(...recent.map(row));
}

function row(entry) {
  const made = element("tr");
  const question = entry.question ?? asked.get(entry.id);
  const strip = element("span", "", "strip");
  strip.append(...entry.writers.map((model) => element("i", "", colour(model))));
  const summary = entry.writers.length ? entry.writers.join(", ") : "nobody";
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", summary);
  strip.title = summary;
  const who = element("td");
  who.append(strip);
  const ended = entry.outcome === "finished" ? entry.stop : entry.outcome;
  made.append(
    element("td", new Date(1000 * entry.time).toLocaleTimeString()),
    element("td", entry.model),
    who,
    element("td", percent(entry.cost_share)),
    element("td", entry.seconds.toFixed(2)),
    element("td", question ? `${ended}: ${question}` : ended, "ask"),
  );
  return made;
}

$("ask").addEventListener("submit", solve);
$("knob").addEventListener("input", turn);
$("default").addEventListener("click", useDefault);
$("stop").addEventListener("click", () => running?.abort());
$("examples").addEventListener("change", (event) => {
  if (event.target.value) $("question").value = event.target.value;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) solve();
  if (event.key === "Escape") running?.abort();
});
meet().catch((error) => say(error.message, true));
