# %% [markdown]
# # On a Ray cluster
#
# The same command, with `cluster=ray`: work is cut by problem, results come back as they finish, into the
# same files. Without an address a cluster of one machine is started, which is enough to see that the rows
# are the same. `python examples/ray_cluster.py`, in a checkout with `pip install -e '.[cluster]'`.

# %%
import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path("outputs/examples/cluster")


def evaluate(name: str, *settings: str) -> dict[tuple[str, str], tuple[bool, float]]:
    """Right or wrong and the cost, by router and problem."""
    command = [
        *(sys.executable, "-W", "ignore", "-m", "scripts.evaluate", "n=12", "compare=[small,large]"),
        *(f"output={FOLDER / name}", *settings),
    ]
    print("$ python -m", *command[4:], flush=True)
    subprocess.run(command, check=True)
    rows = map(json.loads, (FOLDER / name / "rows.jsonl").read_text().splitlines())
    return {(row["router"], row["problem"]): (row["correct"], row["cost"]) for row in rows}


# %% [markdown]
# A cluster that runs already is named by `cluster.address=ray://head:10001`. SLURM and Kubernetes: [Many
# machines](../cluster.md).

# %%
here = evaluate("here")
there = evaluate("there", "cluster=ray")
print(f"{len(there)} rows, {'all' if here == there else 'not all'} the same")
