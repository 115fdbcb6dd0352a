"""The openai client against the gateway: python -m examples.openai_client [BASE_URL]

Start it first: stepwise serve --budget 0.4
"""

from __future__ import annotations

import sys

from openai import OpenAI

QUESTION = (
    "Ben planted 83 trees and lost 47 of them. Emma planted twice as many trees as Ben. "
    "How many trees did Emma plant?"
)


def main(base_url: str = "http://127.0.0.1:8700/v1") -> None:
    client = OpenAI(base_url=base_url, api_key="none")
    print("models:", ", ".join(model.id for model in client.models.list()))
    for model in ("stepwise:small", "stepwise:budget=0.25", "stepwise", "stepwise:large"):
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
        choice = answer.choices[0]
        account = (choice.model_extra or {})["stepwise"]
        writers = " ".join(step["model"] for step in account["steps"])
        print(f"{model:22} {account['cost_share']:4.0%} of large-only: {writers}")
        print("   ", (choice.message.content or "").strip().replace("\n", "\n    "))
    stream = client.chat.completions.create(
        model="stepwise", messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    print(
        "streamed:",
        "".join(chunk.choices[0].delta.content or "" for chunk in stream).strip().splitlines()[-1],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
