"""A Slack assistant that knows people across channels: direct messages are private, mentions are answered for all.

    pip install muxi-identity slack-bolt
    export SLACK_BOT_TOKEN=xoxb-... SLACK_APP_TOKEN=xapp-...
    python examples/slack_bot.py

In the Slack app: Socket Mode on (an app token with connections:write), the events message.im and app_mention, and the
bot scopes im:history, app_mentions:read, chat:write, users:read, users:read.email. It runs on your machine, with no
public address. Set MUXI_FORMATION to a formation.yaml for a model, PostgreSQL and the rest.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from muxi import FormationClient, IdentifierConflictError

logger = logging.getLogger(__name__)


def make_app(formation: FormationClient, token: str) -> App:
    """Return the Slack app that answers for ``formation``."""
    # Slack for governments, and a proxy, have other addresses.
    app = App(client=WebClient(token, base_url=os.environ.get("SLACK_API_URL", WebClient.BASE_URL)))
    linked: set[tuple[str, str]] = set()

    def link(client: WebClient, team_id: str, slack_id: str) -> None:
        """Link a Slack id to the e-mail address that Slack has confirmed, the first time that we meet it."""
        if (team_id, slack_id) in linked:
            return
        email = client.users_info(user=slack_id)["user"]["profile"].get("email")
        if email:
            try:
                formation.associate_user_identifiers(
                    [email, {"identifier": slack_id, "type": "slack", "scope": team_id}],
                    on_conflict="absorb",  # whoever wrote in by mail or from Slack before this joins
                    source="slack",
                )
            except IdentifierConflictError as error:  # linked to two people on purpose: an operator has to decide
                logger.warning("A Slack id and its e-mail address stay apart: %s", error)
        linked.add((team_id, slack_id))

    def answer(event: dict[str, Any], client: WebClient, team_id: str, *, private: bool) -> None:
        slack_id, text = event.get("user"), re.sub(r"<@\w+>", "", event.get("text", "")).strip()
        if not slack_id or not text or "bot_id" in event:  # two bots that answer each other never end
            return
        link(client, team_id, slack_id)
        # A thread is a conversation. A direct message outside of any goes on with the person's current one.
        thread = event.get("thread_ts") or (None if private else event["ts"])
        reply = formation.channel("slack", scope=team_id).chat(
            text,
            user_id=slack_id,
            session_id=f"{event['channel']}:{thread}" if thread else None,
            audience="private" if private else "shared",
        )
        client.chat_postMessage(channel=event["channel"], text=reply.text, thread_ts=thread)

    @app.event("app_mention")
    def mentioned(event: dict[str, Any], client: WebClient, context: dict[str, Any]) -> None:
        answer(event, client, context["team_id"], private=False)

    @app.event("message")
    def written(event: dict[str, Any], client: WebClient, context: dict[str, Any]) -> None:
        if event.get("channel_type") == "im" and "subtype" not in event:
            answer(event, client, context["team_id"], private=True)

    return app


def main() -> None:
    """Connect, and answer until interrupted."""
    with FormationClient(os.environ.get("MUXI_FORMATION")) as formation:
        app = make_app(formation, os.environ["SLACK_BOT_TOKEN"])
        SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start()


if __name__ == "__main__":
    main()
