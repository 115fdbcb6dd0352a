// Earlier turns of a conversation: sent with the next question, and shown above it.

import { $, element } from "./elements.js";

let said = [];

export const earlier = () => said;

// Offers to go on from an answer.
export function followUp(question, chain) {
  const button = element("button", "Follow up", "plain");
  button.type = "button";
  button.addEventListener("click", () => {
    said = [...said, { role: "user", content: question }, { role: "assistant", content: chain.text }];
    show();
    $("chains").replaceChildren();
    $("forecast").hidden = true;
    $("question").value = "";
    $("question").focus();
  });
  chain.root.append(button);
}

export function clearConversation() {
  said = [];
  show();
  $("question").focus();
}

function show() {
  $("said").hidden = !said.length;
  $("turns").replaceChildren(...said.map(({ role, content }) => element("li", content.trim(), role)));
  $("turns").lastElementChild?.scrollIntoView({ block: "nearest" });
  $("asking").textContent = said.length ? "Follow-up question" : "Question";
}
