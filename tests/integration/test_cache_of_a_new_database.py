"""A database that takes the place of a deleted one does not take over its cache, even where somebody still holds it."""

from __future__ import annotations

from pathlib import Path

from muxi_identity import FormationClient


def test_a_new_file_with_the_inode_of_a_deleted_one(tmp_path: Path) -> None:
    file = tmp_path / "muxi.db"
    config = {"memory": {"persistent": {"connection_string": str(file)}}}
    with FormationClient(config) as before:
        stranger = before.resolve_user("alice@email.com", create_user=True)["muxi_user_id"]
        held = before._async._lifecycle.open_formation
    inode = file.stat().st_ino
    # A deleted file's inode goes to the next file or not, as the file system likes. Emptied, it is surely the same.
    file.write_bytes(b"")

    with FormationClient(config) as after:
        made = after.resolve_user("alice@email.com", create_user=True)

    assert file.stat().st_ino == inode
    assert held is not None
    assert made["created"]
    assert made["muxi_user_id"] != stranger
