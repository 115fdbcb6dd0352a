# %% [markdown]
# # What a guarantee means
#
# "At most 40% of large-only cost" is a promise about new questions, made from a thousand recorded ones. It
# may fail, with a chance of at most `delta`. Here the promise is made two thousand times, and the failures
# are counted. `python examples/guarantee.py`

# %%
from importlib.resources import files
from pathlib import Path

import numpy as np

from stepwise.calibration import CalibrationRecord, calibrate
from stepwise.errors import InfeasibleTarget

# %% [markdown]
# A calibration record holds, for each threshold of a router, which of the calibration problems came out
# right and what each of them cost. This one ships with the policy for the nano pair.

# %%
record = CalibrationRecord.load(Path(str(files("stepwise") / "assets" / "nano-ppo" / "calibration.npz")))
print(f"{record.n} problems, {len(record.thresholds)} thresholds")
promise = calibrate(record, budget=0.4, delta=0.1)
print(f"threshold {promise.threshold}: {promise.accuracy:.1%} right at {promise.cost:.1%} of the cost")

# %% [markdown]
# A target that cannot be promised is an error that says what can be.

# %%
try:
    calibrate(record, budget=0.05)
except InfeasibleTarget as error:
    print(error)

# %% [markdown]
# Take the record for the whole truth. Draw 300 problems, calibrate on them, and look at what the threshold
# that came out costs in truth. The naive choice takes the most accurate threshold whose cost on the sample
# is within the budget.

# %%
generator = np.random.default_rng(0)
cost = record.cost_share
truth: dict[str, list[float]] = {"promised": [], "naive": []}
for _ in range(2000):
    sample = record.subset(generator.integers(record.n, size=300))
    chosen = calibrate(sample, budget=0.4, delta=0.1).threshold
    truth["promised"].append(cost[np.searchsorted(record.thresholds, chosen)])
    within = np.flatnonzero(sample.cost_share <= 0.4)
    truth["naive"].append(cost[within[sample.accuracy[within].argmax()]])
for name, costs in truth.items():
    broken = np.mean(np.array(costs) > 0.4)
    print(f"{name:9} broken in {broken:.1%} of 2000 draws, mean cost {np.mean(costs):.1%}")

# %% [markdown]
# It prints:
#
# ```text
# 1000 problems, 21 thresholds
# threshold 0.5: 95.0% right at 38.1% of the cost
# budget 0.05 cannot be promised from 1000 calibration problems; the least that can is 0.072.
# promised  broken in 1.0% of 2000 draws, mean cost 35.9%
# naive     broken in 25.9% of 2000 draws, mean cost 39.2%
# ```
