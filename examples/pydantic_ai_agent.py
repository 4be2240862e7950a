"""A pydantic-ai agent of your own, with the person's memory before and after each turn.

    pip install 'muxi-identity[llm]'
    export OPENAI_API_KEY=...
    python examples/pydantic_ai_agent.py alice@email.com openai:gpt-4o-mini

(For an assistant that is all ready, ``llm.model`` in formation.yaml does the same behind ``formation.chat``.)
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from muxi import AsyncFormationClient, SecretRefusedError, UserContext


@dataclass
class Person:
    """Whom a run is about. The tools get it from here; the model never chooses it."""

    formation: AsyncFormationClient
    user_id: Any
    context: UserContext
    facts: list[str] = field(default_factory=list)


agent = Agent(deps_type=Person, instructions="You are a helpful assistant.")


@agent.instructions
def known(run: RunContext[Person]) -> str:
    """Say what is known of the person."""
    return f"What you know of the person you talk to:\n{run.deps.context}"


@agent.tool
async def remember(run: RunContext[Person], fact: str) -> str:
    """Keep a durable fact about the person, as one short sentence."""
    run.deps.facts.append(fact)
    return "Noted."


@agent.tool
async def recall(run: RunContext[Person], query: str) -> list[str]:
    """Search what is known of the person."""
    found = await run.deps.formation.search_memories(run.deps.user_id, query)
    return [memory["content"] for memory in found]


def history(context: UserContext) -> list[ModelMessage]:
    """Return the session's messages as the agent's history."""
    return [
        ModelRequest(parts=[UserPromptPart(said["content"])])
        if said["role"] == "user"
        else ModelResponse(parts=[TextPart(said["content"])])
        for said in context["messages"]
    ]


async def answer(formation: AsyncFormationClient, model: Any, user_id: Any, message: str) -> str:
    """Answer one message: load the context, run the agent, record the turn."""
    context = await formation.get_user_context(user_id, query=message)
    person = Person(formation, user_id, context)
    result = await agent.run(message, model=model, deps=person, message_history=history(context))
    said = [{"role": "user", "content": message}, {"role": "assistant", "content": result.output}]
    try:
        await formation.record_turn(user_id, said, session_id=context["session_id"], memories=person.facts)
    except SecretRefusedError:  # the model wanted to keep a password: the turn is recorded all the same
        await formation.record_turn(user_id, said, session_id=context["session_id"])
    return result.output


async def main() -> None:
    """Talk on the terminal: the identifier is the first argument, the model the second."""
    user_id, model = sys.argv[1:3]
    async with AsyncFormationClient() as formation:
        while message := (await asyncio.to_thread(input, "> ")).strip():
            print(await answer(formation, model, user_id, message))


if __name__ == "__main__":
    asyncio.run(main())
