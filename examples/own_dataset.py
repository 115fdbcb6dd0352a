# %% [markdown]
# # A dataset of your own
#
# Questions with known answers, in a JSON Lines file with whatever field names it has. It is cut once, by a
# hash of each question, and every program cuts it in the same way. `python examples/own_dataset.py`

# %%
import json
from pathlib import Path

import stepwise
from stepwise.verify import equivalent

# %% [markdown]
# Here the file is made of nano's problems, with the field names of MATH. Yours may be called anything.

# %%
rows = [
    {"problem": problem.question, "solution": f"\\boxed{{{problem.answer}}}", "subject": "word problems"}
    for problem in stepwise.load_dataset("nano", split="test", limit=200)
]
file = Path("outputs/examples/problems.jsonl")
file.parent.mkdir(parents=True, exist_ok=True)
file.write_text("".join(json.dumps(row) + "\n" for row in rows))

# %% [markdown]
# `fields` says what the file calls `question` and `answer`; the other fields are labels, to filter and to
# break results down by. A gold answer may be a solution that marks it (`####`, `\boxed{}`).

# %%
fields = {"question": "problem", "answer": "solution"}
splits = {
    split: stepwise.load_dataset(str(file), split=split, fields=fields)
    for split in ("train", "validation", "calibration", "test")
}
for split, problems in splits.items():
    print(f"{split:12} {len(problems)} problems")
print("first test question's answer:", splits["test"][0].answer)

# %% [markdown]
# Answers are compared by what they mean, not by how they are written.

# %%
for prediction, gold in (("1/2", "0.5"), ("$1,000", "1000"), ("x = 3", "3"), ("12 cm", "12 m")):
    print(f"{prediction!r} and {gold!r}: {'the same' if equivalent(prediction, gold) else 'different'}")

# %% [markdown]
# In the scripts the same is `dataset=problems.jsonl '+dataset.fields={question: problem, answer:
# solution}'`.

# %% [markdown]
# It prints:
#
# ```text
# train        109 problems
# validation   18 problems
# calibration  38 problems
# test         35 problems
# first test question's answer: 9
# '1/2' and '0.5': the same
# '$1,000' and '1000': the same
# 'x = 3' and '3': the same
# '12 cm' and '12 m': different
# ```
