// The page talks to the same endpoints as everybody else.

import { $ } from "./elements.js";

export async function call(path, body, signal) {
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

// What comes of a stream; comments keep it open while there is nothing to say.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]" && !part.startsWith(":")) yield JSON.parse(data);
    }
  }
}
