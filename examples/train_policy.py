# %% [markdown]
# # Train, calibrate, evaluate, serve
#
# From a pair and a file of questions to a policy behind an OpenAI endpoint, in four commands. The pair here
# is nano and the file holds 400 of its questions, so that all of it takes minutes; with models of your own,
# say `pair=mine.yaml` ([a pair of your own](own_pair.md)). `python examples/train_policy.py`, in a
# checkout.

# %%
import json
import subprocess
import sys
from pathlib import Path

import stepwise
from stepwise.report.numbers import with_interval

FOLDER = Path("outputs/examples/policy")
FOLDER.mkdir(parents=True, exist_ok=True)
FILE = FOLDER / "problems.jsonl"
FILE.write_text(
    "".join(
        json.dumps({"question": problem.question, "answer": problem.answer}) + "\n"
        for problem in stepwise.load_dataset("nano", split="train", limit=400)
    )
)


def program(name: str, *settings: str) -> None:
    print("$ python -m", name, *settings, flush=True)
    subprocess.run([sys.executable, "-W", "ignore", "-m", name, *settings], check=True)


# %% [markdown]
# The file is cut by a hash of the questions: half trains, a tenth validates, a fifth each calibrates and
# tests. Training starts with a preflight that says what it will take. 6,000 steps are few (the policy that
# ships had 400,000), and show the form.

# %%
DATA = f"dataset={FILE}"
RUN = str(FOLDER / "run")
program("scripts.train", DATA, f"output={RUN}", "policy.total_steps=6000", "policy.num_envs=32", "--yes")

# %% [markdown]
# A threshold for a budget, promised from the calibration questions: at most 70% of the large model's cost,
# with probability 0.9 on new questions. A small calibration set promises less than a large one; what cannot
# be promised is said.

# %%
program("scripts.calibrate", DATA, f"output={RUN}/calibrated", f"policy={RUN}/policy", "budget=0.7")

# %% [markdown]
# All routers on the test questions: rows, `summary.json`, `frontier.png` and `report.html`.

# %%
program(
    "scripts.evaluate", DATA, f"output={RUN}/compared", f"policy={RUN}/policy", "compare=[ppo,random_query]"
)
summary = json.loads((Path(RUN) / "compared" / "summary.json").read_text())
print(f"{summary['n']} test questions; area under the frontier (APGR), with 95% intervals:")
for name in ("ppo", "confidence", "large_first", "random_query"):
    row = summary["metrics"][name]
    print(f"{name:14} {with_interval(row['apgr'], row['apgr_ci'])}")

# %% [markdown]
# Then it is served: `stepwise serve --router outputs/examples/policy/run/policy --budget 0.7`
