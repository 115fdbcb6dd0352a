"""An Inspect task that a gateway answers: `pip install -e '.[harnesses]'`, then

stepwise serve --budget 0.4
STEPWISE_BASE_URL=http://127.0.0.1:8700/v1 STEPWISE_API_KEY=none \\
    inspect eval examples/inspect_task.py --model openai-api/stepwise/stepwise:budget=0.4
"""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate

from stepwise import load_dataset


@task  # type: ignore[untyped-decorator]
def word_problems(n: int = 20) -> Task:
    """Nano's test problems; a number at the end of the answer is compared."""
    problems = load_dataset("nano", split="test", limit=n)
    return Task(
        dataset=[Sample(input=problem.question, target=problem.answer or "") for problem in problems],
        solver=generate(),
        scorer=match(numeric=True),
    )
