"""The document's story, told by the real thing: ``python -m muxi_identity.demo``.

One person writes in from the web and from Slack, is linked, and is known in both places. Runs on the embedded
default (SQLite) in a folder that is thrown away.
"""

from __future__ import annotations

import os
import tempfile

from muxi_identity.client.synchronous import FormationClient

WEB, SLACK, EMAIL = ("user_123", "internal"), ("U98765ABC", "slack"), "alice@email.com"


def main() -> None:
    """Tell the story on standard output."""
    with tempfile.TemporaryDirectory(prefix="muxi-demo-") as home:
        os.environ["MUXI_HOME"] = home
        with FormationClient() as formation:
            _tell(formation)


def _tell(formation: FormationClient) -> None:
    print("One person, two channels, not linked yet.\n")
    web = _say(formation, "Web chat", WEB[0], "My budget is $5,000")
    slack = _say(formation, "Slack", SLACK[0], "What's my budget?")
    print(f"\n  Two identifiers, two users: {web} and {slack}.\n")

    print("Now all that is known of the person is linked.\n")
    linked = formation.associate_user_identifiers(
        identifiers=[EMAIL, {"identifier": SLACK[0], "type": SLACK[1]}, WEB],
        on_conflict="absorb",  # both wrote in before anybody linked them: they are joined, not refused
        source="demo",
    )
    person = linked["muxi_user_id"]
    print(f"  MUXI User ID: {person}")
    print(f"  newly linked: {', '.join(linked['new_identifiers'])}")
    print(f"  known before: {', '.join(linked['existing_identifiers'])}\n")

    print("The same question again.\n")
    _say(formation, "Slack", SLACK[0], "What's my budget?")
    _say(formation, "E-mail", EMAIL, "Do you remember my budget?")

    print("\nOne person, these identifiers:\n")
    for record in formation.get_user_identifiers(person, detailed=True):
        print(f"  {record['identifier']:<16} {record['type']}")

    print("\nThe sessions stayed apart:\n")
    for channel, identifier in (("Web chat", WEB[0]), ("Slack", SLACK[0]), ("E-mail", EMAIL)):
        session_id = formation.chat("Thanks!", user_id=identifier).session_id
        print(f"  {channel:<9} {session_id}")
        for message in formation.get_session_messages(session_id, identifier)["messages"]:
            print(f"            {message['role']:>9}: {message['content']}")


def _say(formation: FormationClient, channel: str, identifier: str, text: str) -> str:
    reply = formation.chat(text, user_id=identifier)
    print(f"  {channel} ({identifier})")
    print(f"    User: {text}")
    print(f"    MUXI: {reply}")
    return reply.user_id


if __name__ == "__main__":
    main()
