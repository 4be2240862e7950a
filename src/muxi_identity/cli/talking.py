"""``muxi chat``: talk to a formation, as anybody."""

from __future__ import annotations

from typing import Annotated

import typer

from muxi_identity.cli.output import (
    JsonOption,
    console,
    parse_argument,
    print_json,
    show_error,
)
from muxi_identity.cli.reach import on_formation
from muxi_identity.cli.wording import marked, visible
from muxi_identity.client.operations import Given
from muxi_identity.client.synchronous import FormationClient
from muxi_identity.errors import ForbiddenError, MuxiError

_HELP = """/as IDENTIFIER   go on as somebody else (VALUE, TYPE=VALUE, usr_... or JSON)
/who             tell who that is, and what they are known by
/new ID          go on in the session of that id; without one, in the current one
/quit            leave (or Ctrl-D)"""


@on_formation("client_key")
def chat(
    formation: FormationClient,
    as_: Annotated[
        str, typer.Option("--as", metavar="IDENTIFIER", help="Who you are: VALUE, TYPE=VALUE, usr_... or JSON.")
    ],
    message: Annotated[str | None, typer.Argument(help="Say this and end; without it, a conversation begins.")] = None,
    json: JsonOption = False,
    session: Annotated[str | None, typer.Option("--session", help="The session to go on with.")] = None,
) -> None:
    """Talk to the formation as somebody. In a conversation, /as switches to somebody else; /help lists the rest."""
    if message is not None:
        reply = formation.chat(message, parse_argument(as_), session_id=session)
        if json:
            print_json(reply)
        else:
            typer.echo(visible(str(reply), lines=True))
        return
    _Conversation(formation, as_, session).run()


class _Conversation:
    def __init__(self, formation: FormationClient, name: str, session: str | None) -> None:
        self._formation = formation
        self._session = session
        self._name = name
        self._who: Given = parse_argument(name)

    def run(self) -> None:
        console.print("[dim]/help lists the commands.[/dim]")
        while True:
            try:
                line = console.input(f"[bold]{marked(self._name)}>[/bold] ", emoji=False).strip()
            except (EOFError, KeyboardInterrupt):
                console.print()
                return
            if line in {"/quit", "/exit"}:
                return
            if not line:
                continue
            try:
                self._take(line)
            except MuxiError as error:  # the conversation goes on
                show_error(error)

    def _take(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/as" and rest.strip():
            self._who, self._name, self._session = parse_argument(rest.strip()), rest.strip(), None
        elif command == "/who":
            console.print(marked(self._told()), soft_wrap=True)
        elif command == "/new":
            self._session = rest.strip() or None
        elif command == "/help":
            console.print(_HELP, markup=False)
        elif command.startswith("/"):
            console.print(f"[dim]There is no {marked(command)}; /help lists the commands.[/dim]")
        else:
            reply = self._formation.chat(line, self._who, session_id=self._session)
            console.print(marked(str(reply), lines=True), soft_wrap=True)

    def _told(self) -> str:
        who = self._formation.resolve_user(self._who)["muxi_user_id"]
        try:
            known = ", ".join(self._formation.get_user_identifiers(who)) or "no identifier"
        except ForbiddenError:  # a conversation takes the client key, or a token, and neither may know
            known = "the admin key tells what they are known by"
        return f"{who}: {known}"
