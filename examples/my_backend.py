"""A backend of your own, in about sixty lines: python -m examples.my_backend

It runs a "model" that adds numbers, one a line. The small one forgets to carry, and is unsure where it would
have to. A real backend asks a server or a library in `_write`; the comments say what else it has to keep.
"""

# ```text
# small  10 of 40 right, cost 5%
# large  40 of 40 right, cost 100%
# unsure 40 of 40 right, cost 27%
# ```

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from stepwise import Engine, Problem, Router, Usage
from stepwise.engine import signals
from stepwise.engine.backend import Completion, Lost, Sampling, room, unaccounted
from stepwise.engine.cost import Flops
from stepwise.engine.stop_rules import StepRule
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.types import Finish

SURE, UNSURE = -0.01, -1.5


class AddingBackend:
    def __init__(self, carries: bool, parameters: int) -> None:
        self.revision = f"adding, {carries=}"  # identifies weights and tokenizer: part of every store key
        self.tokenizer = "characters"  # backends that share it exchange token ids
        self.parameters = parameters
        self.context = 1000
        self._carries = carries

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        limit = min(sampling.max_tokens, room(prefix, self.context))  # raises ContextOverflow
        rest, logprobs = self._write("".join(map(chr, prefix)))
        end: Finish = "end" if limit > len(rest) else "length"
        count, finish = sampling.ends.cut(rest[:limit], end, limit)  # where the step ends
        usage = Usage(prompt=len(prefix), completion=count + (finish == "end"))  # its end is a token, too
        try:
            await asyncio.sleep(0)  # the call of a server or a library
        except asyncio.CancelledError:
            lost(usage)  # what ends up in no completion is reported before the cancellation goes on
            raise
        likely = [*logprobs[:count], SURE][: usage.completion]
        measured = signals.measure(likely, [[value, value - 1.0] for value in likely])  # confidence reads it
        return Completion(rest[:count], self.encode(rest[:count]), usage, measured, finish)

    async def close(self) -> None:
        """Free the model."""

    def _write(self, text: str) -> tuple[str, list[float]]:
        """All that the model would write after a text, and how likely it thinks each character."""
        question, _, chain = text.partition("\n")
        first, *numbers = map(int, question.split(" + "))
        *lines, begun = chain.split("\n")
        total = int(lines[-1].split(" = ")[1]) if lines else first
        written, logprobs = "", []
        for number in numbers[len(lines) :]:
            carry = sum(int(n) % 10 for n in (total, number)) > 9
            result = total + number - (10 if carry and not self._carries else 0)
            line = f"{total} + {number} = {result}\n"
            written, total = written + line, result
            logprobs += [UNSURE if carry and not self._carries else SURE] * len(line)
        written += f"The answer is {total}."
        logprobs += [SURE] * (len(written) - len(logprobs))
        return written[len(begun) :], logprobs[len(begun) :]


def problems(n: int) -> list[Problem]:
    """Sums of three numbers."""
    rng = random.Random(0)
    sums = [[rng.randint(1, 99) for _ in range(3)] for _ in range(n)]
    return [Problem(str(i), " + ".join(map(str, s)), str(sum(s))) for i, s in enumerate(sums)]


def main() -> None:
    backends = {"small": AddingBackend(False, 1), "large": AddingBackend(True, 20)}
    cost = Flops({name: backend.parameters for name, backend in backends.items()})
    engine = Engine(backends, prompt="{question}\n", rule=StepRule(), cost=cost)
    routers: list[Router] = [
        Always("small"),
        Always("large"),
        ThresholdRouter(Confidence("min"), 1.0, "unsure"),
    ]
    questions = problems(40)
    chains = {r.name: [engine.solve_sync(question, r) for question in questions] for r in routers}
    spent = {name: sum(chain.cost for chain in some) for name, some in chains.items()}
    for name, some in chains.items():
        pairs = zip(some, questions, strict=True)
        right = sum(chain.answer == question.answer for chain, question in pairs)
        print(f"{name:6} {right} of {len(questions)} right, cost {spent[name] / spent['large']:.0%}")


if __name__ == "__main__":
    main()
