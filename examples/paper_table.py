# %% [markdown]
# # A table for a paper
#
# Routers on GSM8K with Qwen2.5-Coder 0.5B and 1.5B, scored on what the two models wrote when they were
# recorded: the real engine, no weights, no GPU, about a minute. Prints LaTeX. `python
# examples/paper_table.py`

# %%
from stepwise.evaluation.replayed import Bench, Setting
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.routers import Confidence, ThresholdRouter

# %% [markdown]
# A bench holds the recorded test problems and both models' own chains. A contender is a router at one
# setting.

# %%
bench = Bench(Recording("recordings/gsm8k-qwen_coder"))
contenders = [
    Contender(ThresholdRouter(Confidence(), threshold, "Least likely token"), threshold)
    for threshold in (0.5, 1.05, 1.35)
]
rows = bench.table([bench.small, bench.large, *map(bench.replay, contenders)])

# %% [markdown]
# Intervals are 95%, bootstrapped over questions. Coverage is the share of a router's decisions that were
# recorded; chains that leave the recording count as wrong.


# %%
def latex(name: str, setting: Setting) -> str:
    low, high = (100 * value for value in setting.accuracy_ci)
    at = "" if setting.threshold is None else f" ({setting.threshold} nats)"
    return (
        f"{name}{at} & {100 * setting.accuracy:.1f} [{low:.1f}, {high:.1f}] & "
        f"{100 * setting.cost:.0f}\\% & {100 * setting.coverage:.0f}\\% \\\\"
    )


names = {"small": "0.5B alone", "large": "1.5B alone"}
print(f"% GSM8K test, n = {len(bench.problems)}, greedy; cost in FLOPs, everything charged")
print(r"\begin{tabular}{lrrr} \toprule")
print(r"Router & Accuracy & Cost & Coverage \\ \midrule")
for row in rows:
    for setting in row.settings:
        print(latex(names.get(row.router, row.router), setting))
print(r"\bottomrule \end{tabular}")

# %% [markdown]
# It prints:
#
# ```text
# % GSM8K test, n = 300, greedy; cost in FLOPs, everything charged
# 0.5B alone & 22.7 [18.0, 27.7] & 34\% & 100\% \\
# 1.5B alone & 44.3 [38.7, 50.0] & 100\% & 100\% \\
# Least likely token (0.5 nats) & 41.7 [36.0, 47.3] & 133\% & 100\% \\
# Least likely token (1.05 nats) & 32.0 [27.0, 37.0] & 118\% & 100\% \\
# ```
