// Clients in JavaScript, each as its own documentation begins.  node node.mjs URL chat|bare
// Prints a line of JSON for each thing tried: client, version, what, and what went wrong ("" if nothing).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, kind] = process.argv.slice(2);
const require = createRequire(process.cwd() + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
const question = "Ben planted 83 trees and lost 47 of them. Emma planted twice as many trees as Ben. "
  + "How many trees did Emma plant?";
const said = (text) => { if (!text?.trim()) throw new Error("no text"); };

async function attempt(client, what, run) {
  let wrong = "";
  try { await run(); } catch (error) { wrong = `${error.name}: ${error.message}`.slice(0, 200); }
  console.log(JSON.stringify({ client, version: version(client), what, wrong }));
}

async function openai() {
  const { default: OpenAI } = await load("openai");
  const user = new OpenAI({ baseURL: url, apiKey: "none" });
  const messages = [{ role: "user", content: question }];
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  await attempt("openai", "create", async () => {
    said((await user.chat.completions.create({ model: "stepwise", messages })).choices[0].message.content);
  });
  await attempt("openai", "stream", async () => {
    let text = "";
    for await (const chunk of await user.chat.completions.create({ model: "stepwise", messages, stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
    said(text);
  });
  await attempt("openai", "responses", async () => {
    said((await user.responses.create({ model: "stepwise", input: question })).output_text);
  });
  if (kind !== "chat") return;
  await attempt("openai", "conversation", async () => {
    const talk = [{ role: "system", content: "Be brief." }, ...messages];
    said((await user.chat.completions.create({ model: "stepwise", messages: talk })).choices[0].message.content);
  });
  await attempt("openai", "tools", async () => {
    const got = await user.chat.completions.create({ model: "stepwise", messages, tools });
    said(got.choices[0].message.tool_calls[0].function.arguments);
  });
}

async function vercel() {
  const { generateText, generateObject, streamText, tool } = await load("ai");
  const { createOpenAI } = await load("@ai-sdk/openai");
  const { z } = await load("zod");
  const provider = createOpenAI({ baseURL: url, apiKey: "none" });
  const model = provider("stepwise"); // the Responses API
  const wrong = [];
  const onError = ({ error }) => wrong.push(error);
  await attempt("ai", "generateText", async () => said((await generateText({ model, prompt: question })).text));
  await attempt("ai", "streamText", async () => {
    const text = await streamText({ model, prompt: question, onError }).text;
    if (wrong.length) throw wrong[0];
    said(text);
  });
  await attempt("ai", "generateText, chat", async () => {
    said((await generateText({ model: provider.chat("stepwise"), prompt: question })).text);
  });
  if (kind !== "chat") return;
  const schema = z.object({ name: z.string() });
  const weather = tool({ inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => `Rain in ${city}.` });
  await attempt("ai", "system", async () => {
    said((await generateText({ model, system: "Be brief.", prompt: question })).text);
  });
  await attempt("ai", "tools", async () => {
    const got = await generateText({ model, prompt: question, tools: { weather } });
    said(got.toolCalls[0].toolName);
  });
  await attempt("ai", "generateObject", async () => said((await generateObject({ model, schema, prompt: question })).object.name));
  await attempt("ai", "generateObject, chat", async () => {
    said((await generateObject({ model: provider.chat("stepwise"), schema, prompt: question })).object.name);
  });
}

await openai();
await vercel();
