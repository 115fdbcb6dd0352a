# %% [markdown]
# # SCOPE from a table
#
# You have a table: which model got which question right, with how many tokens. Three commands later a new
# question has the model to take. `python examples/scope_from_table.py`

# %%
import asyncio
import csv
import subprocess
import sys
from pathlib import Path

import stepwise
from stepwise.routers import Always
from stepwise.verify import correct

FOLDER = Path("outputs/examples/scope")
FOLDER.mkdir(parents=True, exist_ok=True)
TABLE = FOLDER / "results.csv"

# %% [markdown]
# The table here comes from the three models that ship, on 200 questions. With a table of your own this step
# falls away. Columns: `question`, `model`, `correct`, `tokens`, and if you like `cost` (in dollars) and
# `group`. Nano's models have no price: here a trillion FLOPs cost a dollar.

# %%
NAMES = ["small", "middle", "large"]
engine = stepwise.load_pair("nano").engine(models=NAMES)
problems = stepwise.load_dataset("nano", split="calibration", limit=200)


async def solved(name: str) -> list[tuple[str, str, int, int, float]]:
    """A row a question: what one model alone made of it."""
    traces = [trace async for trace in engine.solve_many(problems, Always(name))]
    return [
        (t.problem.question, name, int(await correct(t)), t.usage[name].completion, t.cost / 1e12)
        for t in traces
    ]


async def table() -> list[tuple[str, str, int, int, float]]:
    return sorted(row for rows in await asyncio.gather(*map(solved, NAMES)) for row in rows)


with TABLE.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("question", "model", "correct", "tokens", "cost"))
    writer.writerows(engine.run(table()))

# %% [markdown]
# One command reads the table, chooses the anchor questions and writes the models' fingerprints; one says
# what each model would make of a question; one says which model to take.


# %%
def command(*arguments: str) -> None:
    print("$ stepwise", *arguments)
    subprocess.run([sys.executable, "-m", "stepwise", *arguments], check=True)


question = problems[7].question
command("scope", "import", str(TABLE), "--folder", str(FOLDER), "--anchors", "100")
command("scope", "estimate", question, "--folder", str(FOLDER))
command("scope", "choose", question, "--folder", str(FOLDER), "--alpha", "0.7")

# %% [markdown]
# `stepwise scope report` shows the models and what routing among them gives on the anchors; `stepwise serve
# --router scope` serves it.

# %% [markdown]
# It prints, beside a table of what was expected of each model:
#
# ```text
# read 600 rows (long): 200 questions, 3 models
# wrote 100 anchors and 3 fingerprints to outputs/examples/scope
# middle
# ```
