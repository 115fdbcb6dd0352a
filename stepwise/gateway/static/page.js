// The page: its form, the knob, and what was asked of late.

import { Chain } from "./chain.js";
import { clearConversation, earlier, followUp } from "./conversation.js";
import { $, amount, clip, colour, element, percent } from "./elements.js";
import { showEstimates } from "./estimates.js";
import { call } from "./requests.js";

let server = null; // GET /stepwise/server
let running = null; // AbortController of what is being solved
let stops = []; // positions of the knob, cheapest first
const asked = new Map(); // question by id of its chain: the server need not keep it

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

// The server and the knob

async function meet() {
  server = await (await call("/stepwise/server")).json();
  $("locked").hidden = !sessionStorage.getItem("key");
  $("pool").replaceChildren(...server.models.map((model) => element("span", model, `dot ${colour(server.models, model)}`)));
  const pick = server.examples.map((text) => new Option(clip(text, 90), text));
  $("examples").replaceChildren(new Option("…", ""), ...pick);
  $("pick").hidden = !pick.length;
  $("purpose").textContent = server.purpose;
  $("purpose").hidden = !server.purpose;
  if (!$("question").value && pick.length) $("question").value = server.examples[0];
  layOutKnob();
  await showRecent();
}

function layOutKnob() {
  const [small, large] = [server.models[0], server.models.at(-1)];
  const curve = server.calibration;
  const problems = curve?.knob === "alpha" ? "anchors" : "calibration problems";
  const between = (curve?.setting ?? []).map((setting, i) => ({
    model: `stepwise:${curve.knob}=${setting}`,
    cost: curve.cost[i],
    label: `about ${percent(curve.cost[i])} of large-only, ${percent(curve.accuracy[i])} right (${large}: ${percent(curve.large_accuracy)}) on ${curve.n} ${problems}`,
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
  const setting = server.default.setting;
  const distance = (stop) => Math.abs(Number(stop.model.split("=")[1]) - setting);
  const routed = stops.slice(1, -1).map((stop, i) => [distance(stop), i + 1]).filter(([far]) => !Number.isNaN(far));
  $("knob").value = routed.length && setting != null ? routed.sort((a, b) => a[0] - b[0])[0][1] : Math.floor(stops.length / 2);
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
    const chains = [...new Set(knobs)].map((knob) => new Chain(knob, server.models));
    const messages = [...earlier(), { role: "user", content: question }];
    $("chains").replaceChildren(...chains.map((chain) => chain.root));
    const ends = await Promise.allSettled(chains.map((chain) => chain.follow(messages, running.signal)));
    chains.forEach((chain) => asked.set(chain.id, question));
    const failure = ends.find((end) => end.status === "rejected");
    if (failure) throw failure.reason;
    const [routed] = chains;
    showEstimates(server.models, routed.estimates, routed.writers);
    if (server.conversation) followUp(question, routed);
    say(`done: ${routed.verdict}`);
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
  showEstimates(server.models, estimates);
}

// Recent requests

async function showRecent() {
  const { recent, spent } = await (await call("/stepwise/recent")).json();
  if (recent.length) $("recent").replaceChildren(...recent.map(row));
  const answers = spent.chains === 1 ? "1 answer" : `${spent.chains} answers`;
  $("spent").textContent = `${answers} to all since the server started: ${amount(spent.cost)} ${spent.cost_unit}, ${percent(spent.cost_share)} of large-only`;
  $("spent").hidden = !spent.chains;
}

function row(entry) {
  const made = element("tr");
  const question = entry.question ?? asked.get(entry.id);
  const strip = element("span", "", "strip");
  strip.append(...entry.writers.map((model) => element("i", "", colour(server.models, model))));
  const summary = entry.writers.length ? entry.writers.join(", ") : "nobody";
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", summary);
  strip.title = summary;
  const who = element("td");
  who.append(strip);
  const stop = entry.outcome === "finished" ? entry.stop : entry.outcome;
  const notes = [stop, entry.turn > 1 && `turn ${entry.turn}`, entry.degraded && "degraded"];
  const ended = notes.filter(Boolean).join(", ");
  if (entry.degraded) made.title = entry.degraded;
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
$("anew").addEventListener("click", clearConversation);
$("stop").addEventListener("click", () => running?.abort());
$("examples").addEventListener("change", (event) => {
  if (event.target.value) $("question").value = event.target.value;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) solve();
  if (event.key === "Escape") running?.abort();
});
meet().catch((error) => say(error.message, true));
