"""Your own agent loop around any OpenAI-compatible service, with the person's memory before and after each turn.

    pip install muxi-identity openai
    export OPENAI_API_KEY=...          # and OPENAI_BASE_URL, OPENAI_MODEL for another service
    python examples/openai_loop.py alice@email.com

Tell it something, end it, start it again under another identifier of the same person: it still knows.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from openai import OpenAI

from muxi import FormationClient, SecretRefusedError

INSTRUCTIONS = "You are a helpful assistant. What follows is what you know of the person you talk to.\n\n"
ROUNDS = 8  # of tool calls, in one turn
REMEMBER = {
    "type": "function",
    "function": {
        "name": "remember",
        "description": "Keep a durable fact about the person, as one short sentence.",
        "parameters": {
            "type": "object",
            "properties": {"fact": {"type": "string"}},
            "required": ["fact"],
        },
    },
}


def answer(formation: FormationClient, model: OpenAI, user_id: Any, message: str) -> str:
    """Answer one message: load the context, ask the model, record the turn."""
    context = formation.get_user_context(user_id, query=message)
    asked: list[Any] = [{"role": "system", "content": INSTRUCTIONS + str(context)}]
    asked += [{"role": said["role"], "content": said["content"]} for said in context["messages"]]
    asked.append({"role": "user", "content": message})
    facts: list[str] = []
    for _ in range(ROUNDS):
        reply = model.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), messages=asked, tools=[REMEMBER]
        )
        choice = reply.choices[0].message
        if not choice.tool_calls:
            break
        asked.append(choice.model_dump(exclude_none=True))
        for call in choice.tool_calls:
            result = note(call.function.arguments, facts)
            asked.append({"role": "tool", "tool_call_id": call.id, "content": result})
    text = choice.content or "I have no answer to that."
    said = [{"role": "user", "content": message}, {"role": "assistant", "content": text}]
    try:
        formation.record_turn(user_id, said, session_id=context["session_id"], memories=facts)
    except SecretRefusedError:  # the model wanted to keep a password: the turn is recorded all the same
        formation.record_turn(user_id, said, session_id=context["session_id"])
    return text


def note(arguments: str, facts: list[str]) -> str:
    """Note what the model wants to remember, and return what it is told."""
    try:
        fact = json.loads(arguments)["fact"]
    except (ValueError, TypeError, KeyError):
        fact = None
    if not isinstance(fact, str) or not fact.strip():
        return 'Nothing was noted: pass {"fact": "one short sentence"}.'
    facts.append(fact)
    return "Noted."


def main() -> None:
    """Talk on the terminal, as the person whose identifier is the first argument."""
    user_id = sys.argv[1]
    with FormationClient() as formation:
        model = OpenAI()
        while message := input("> ").strip():
            print(answer(formation, model, user_id, message))


if __name__ == "__main__":
    main()
