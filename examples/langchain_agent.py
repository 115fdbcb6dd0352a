"""A LangChain agent behind the gateway: python -m examples.langchain_agent [BASE_URL]

The models need chat templates and tools (vLLM with --enable-auto-tool-choice, llama-server with --jinja, or a
closed model): stepwise serve --pair mine.yaml --router confidence --threshold 1.0

A turn with tools is one step: the small model drafts it, and the large one writes it anew where the draft was
unsure or calls a tool that there is not.
"""

from __future__ import annotations

import sys
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUESTION = (
    "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left? Use the calculator."
)
TURNS = 6


@tool
def calculator(left: float, operation: str, right: float) -> float:
    """Add (+), subtract (-), multiply (*) or divide (/) two numbers."""
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / (right or 1)}[operation]


def main(base_url: str = "http://127.0.0.1:8700/v1") -> str:
    """Ask, run the tools that are called, and ask again, until the answer is text."""
    model = ChatOpenAI(base_url=base_url, api_key="none", model="stepwise")  # type: ignore[arg-type]
    agent = model.bind_tools([calculator])
    messages: list[BaseMessage] = [HumanMessage(QUESTION)]
    for _ in range(TURNS):
        answer: Any = agent.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            result = calculator.invoke(call["args"])
            print(f"calculator({call['args']}) = {result}")
            messages.append(ToolMessage(str(result), tool_call_id=call["id"]))
    print(messages[-1].content)
    return str(messages[-1].content)


if __name__ == "__main__":
    main(*sys.argv[1:])
