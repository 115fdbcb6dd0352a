// One answer as it grows: who wrote each step and why, and what it cost.

import { $, amount, colour, element, percent, round } from "./elements.js";
import { call, events } from "./requests.js";

export class Chain {
  constructor(knob, models) {
    this.knob = knob;
    this.models = models;
    this.root = $("chain").content.firstElementChild.cloneNode(true);
    const alone = { "stepwise:small": models[0], "stepwise:large": models.at(-1) }[knob];
    this.root.querySelector("h2").textContent = alone ? `${alone} alone` : knob;
    this.list = this.root.querySelector("ol");
    this.line = null; // the step that is being written
    this.reason = ""; // of the last step
    this.writers = new Set();
    this.text = "";
    this.verdict = "";
    this.estimates = []; // what the router went by
  }

  // The answer to the last of the messages.
  async follow(messages, signal) {
    try {
      const answer = await call("/v1/chat/completions", { model: this.knob, messages, stream: true }, signal);
      for await (const event of events(answer.body)) {
        if (event.error) throw new Error(event.error.message);
        for (const choice of event.choices) this.take(choice, event.id);
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

  take(choice, id) {
    const { step, model } = choice.stepwise;
    if (choice.delta.content) this.write(choice.delta.content, model);
    if (step) this.close(step, choice.stepwise);
    if (choice.finish_reason) {
      this.id = `${id.replace("chatcmpl-", "")}-0`;
      this.finish(choice.stepwise);
    }
  }

  write(text, model) {
    this.text += text;
    if (!this.line) {
      this.line = element("li", "", `writing ${colour(this.models, model)}`);
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
    } else if (step.reason !== this.reason) why.append(element("span", step.reason));
    this.reason = step.reason;
    this.writers.add(step.model);
    why.append(element("span", `${step.tokens} tokens`));
    line.append(why);
    this.line = null;
    this.meter(cost_share);
  }

  finish(summary) {
    const degraded = this.root.querySelector(".degraded");
    degraded.textContent = `Degraded: ${summary.degraded}`;
    degraded.hidden = !summary.degraded;
    this.estimates = summary.estimates;
    this.verdict = `${summary.answer || "no answer"}, at ${percent(summary.cost_share)} of large-only${summary.degraded ? ", degraded" : ""}`;
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
