# %% [markdown]
# # A pair of your own, behind HTTP
#
# Two servers that speak OpenAI's protocol, a pair file that names them, and a rule that needs no training.
# Start the servers first. Without models at hand, serve the two tiny ones that ship with stepwise:
#
#     python -m vllm.entrypoints.openai.api_server --model stepwise/assets/nano/small \
#         --served-model-name small --port 8001 --enforce-eager --dtype float32 --enable-prompt-tokens-details
#     python -m vllm.entrypoints.openai.api_server --model stepwise/assets/nano/large \
#         --served-model-name large --port 8002 --enforce-eager --dtype float32 --enable-prompt-tokens-details
#
# Then `python examples/own_pair.py`.

# %%
import os
from pathlib import Path

import stepwise
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.verify import correct

SMALL = os.environ.get("SMALL_URL", "http://127.0.0.1:8001/v1")
LARGE = os.environ.get("LARGE_URL", "http://127.0.0.1:8002/v1")

# %% [markdown]
# A pair file is data. Models stand cheapest first; `separator` ends a step. `path` is where the tokenizer
# is, a folder or a repository on the hub.

# %%
pair_file = Path("outputs/examples/mine.yaml")
pair_file.parent.mkdir(parents=True, exist_ok=True)
pair_file.write_text(f"""\
name: mine
prompt: "{{question}}\\n"
separator: "\\n"
models:
  - name: small
    path: stepwise/assets/nano/small
    backend: {{name: vllm-server, base_url: "{SMALL}", served_name: small}}
  - name: large
    path: stepwise/assets/nano/large
    backend: {{name: vllm-server, base_url: "{LARGE}", served_name: large}}
""")
engine = stepwise.load_pair(pair_file).engine()

# %% [markdown]
# The rule: the small model drafts every step; if one of its tokens was less likely than e^-1, the large
# model writes the step instead. One question first.

# %%
rule = ThresholdRouter(Confidence(), threshold=1.0, name="confidence")
problems = stepwise.load_dataset("nano", split="test", limit=50)
trace = engine.solve_sync(problems[0], rule)
print(problems[0].question)
for step in trace.steps:
    print(f"{step.model:6} {step.text.strip()}")
print(f"{trace.cost / engine.cost_alone(trace, 'large'):.0%} of what the large model alone would have cost\n")

# %% [markdown]
# Then fifty, side by side, by each model alone and by the rule.


# %%
async def measured(router: stepwise.Router) -> tuple[int, float]:
    """How many answers are right, and what all the chains cost."""
    traces = [trace async for trace in engine.solve_many(problems, router)]
    return sum([await correct(trace) for trace in traces]), sum(trace.cost for trace in traces)


results = {router.name: engine.run(measured(router)) for router in (Always("small"), rule, Always("large"))}
for name, (right, cost) in results.items():
    print(f"{name:10} {right} of {len(problems)} right, cost {cost / results['large'][1]:.0%}")
engine.run(engine.close())

# %% [markdown]
# It prints, after the first question's steps:
#
# ```text
# small      26 of 50 right, cost 7%
# confidence 45 of 50 right, cost 17%
# large      49 of 50 right, cost 100%
# ```
