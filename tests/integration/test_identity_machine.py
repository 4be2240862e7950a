"""A state machine of every identity operation against a plain model of the rules, on both databases.

The model is written from the rules alone. It knows no buckets, slots, members or caches: a list of rows, a parent
for each user, and what a look-up means. Results and errors must agree, and after every step what every spelling
means, asked through the cache and around it.

``MUXI_MACHINE_EXAMPLES=2000 pytest tests/integration/test_identity_machine.py`` runs longer, with random seeds.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
    LastIdentifierError,
    MergeConflictError,
    MuxiError,
    UserExistsError,
    UserNotFoundError,
)
from muxi_identity.formation import Caller, Clock, Formation
from muxi_identity.identity.cache import IdentityCache
from muxi_identity.identity.coherence import Listening, SqlitePoll
from muxi_identity.identity.lookup import Lookup
from muxi_identity.storage.database import Database
from tests.formations import Time
from tests.shared_databases import close_for_good, shared_database

EXAMPLES = int(os.environ.get("MUXI_MACHINE_EXAMPLES", "0"))
CALLER = Caller("machine", "test")

# The alphabet: few texts, so that everything meets everything.
KEY_A, KEY_B = "key_alpha_0123456789", "key_beta_0123456780"
HINTS = {KEY_A: "ke...789", KEY_B: "ke...80"}


@dataclass(frozen=True)
class Name:
    """An identifier as a caller gives it."""

    text: str
    type: str | None = None
    scope: str | None = None

    @property
    def given(self) -> object:
        if self.scope is not None:
            return {"identifier": self.text, "type": self.type, "scope": self.scope}
        if self.type is not None:
            return (self.text, self.type)
        return int(self.text) if self.text.isdigit() else self.text

    @property
    def secret(self) -> bool:
        return self.type == "api_key"

    @property
    def real_type(self) -> str | None:
        """A bare e-mail address is typed; nothing else is guessed."""
        return "email" if self.type is None and "@" in self.text else self.type

    @property
    def shown(self) -> str:
        return HINTS[self.text] if self.secret else self.text


NAMES = [
    Name("U1"),
    Name("U1", "slack"),
    Name("U1", "slack", "T1"),
    Name("U1", "slack", "T2"),
    Name("U2", "slack"),
    Name("77"),
    Name("77", "telegram"),
    Name("77", "github"),
    Name("Ann@x.org"),
    Name("ann@x.org"),
    Name("ANN@x.org", "email"),
    Name("Ann@x.org", "internal"),
    Name("ann@x.org", "internal"),
    Name("bob@x.org"),
    Name("dev-1"),
    Name("dev-1", "anonymous"),
    Name("dev-2", "anonymous"),
    Name(KEY_A),
    Name(KEY_A, "api_key"),
    Name(KEY_A, "internal"),
    Name(KEY_B),
    Name(KEY_B, "api_key"),
]


def normal(text: str, type: str | None) -> str:
    return text.lower() if type == "email" else text


def fold(text: str) -> str:
    return text.lower() if "@" in text else text


@dataclass
class Row:
    """An identifier of somebody, or what is left of it."""

    name: Name
    type: str | None
    scope: str | None
    secret: bool
    owner: str
    order: int
    expires: int | None = None
    verified: bool = False
    unlinked: bool = False

    def live(self, now: int) -> bool:
        return not self.unlinked and (self.expires is None or self.expires > now)

    def has_text(self, text: str) -> bool:
        """Whether ``text`` is a spelling of it, under its own type."""
        return normal(self.name.text, self.type) == normal(text, self.type)

    @property
    def shown(self) -> str:
        return HINTS[self.name.text] if self.secret else self.name.text


@dataclass
class User:
    created: int
    established: bool
    parent: str | None = None


class Ambiguous(Exception):
    """Several people have it."""


@dataclass
class Item:
    """One distinct identifier of a link, with the rows that count as the same identifier."""

    position: int
    name: Name
    expires: int | None
    verified: bool
    rows: list[Row] = field(default_factory=list)


@dataclass
class Plan:
    """What a link must do: raise one of ``errors``, or this."""

    errors: set[type[MuxiError]] = field(default_factory=set)
    conflicts: list[tuple[str, str | None, str]] = field(default_factory=list)
    given: str | None = None
    survivor: str | None = None
    absorbed: list[str] = field(default_factory=list)
    known: list[Item] = field(default_factory=list)
    fresh: list[Item] = field(default_factory=list)
    taken: list[Item] = field(default_factory=list)
    promoted: list[Item] = field(default_factory=list)
    left: list[Item] = field(default_factory=list)


class Model:
    """The rules, for one formation."""

    def __init__(self, match: str, limit: int, caps: dict[str, int]) -> None:
        self.match, self.limit, self.caps = match, limit, caps
        self.users: dict[str, User] = {}
        self.gone: set[str] = set()
        self.rows: list[Row] = []
        self.orders = 0

    # Who is who

    def root(self, user_id: str) -> str:
        parent = self.users[user_id].parent
        return user_id if parent is None else self.root(parent)

    def person(self, root: str) -> list[str]:
        return [user_id for user_id in self.users if self.root(user_id) == root]

    def established(self, root: str) -> bool:
        return any(self.users[user_id].established for user_id in self.person(root))

    def rows_of(self, root: str, now: int) -> list[Row]:
        return [row for row in self.rows if row.live(now) and self.root(row.owner) == root]

    def owners(self, rows: list[Row]) -> set[str]:
        return {self.root(row.owner) for row in rows}

    # Look-ups: typed is exact, untyped is a guess

    def matching(self, name: Name, now: int) -> list[Row]:
        live = [row for row in self.rows if row.live(now)]
        if name.type is not None:
            found = [
                row
                for row in live
                if row.type == name.type and name.scope in (None, row.scope) and row.has_text(name.text)
            ]
            found = [row for row in found if row.scope == name.scope] or found
        else:
            untyped = [row for row in live if row.type is None and row.has_text(name.text)]
            found = untyped or [row for row in live if row.has_text(name.text)]
        if len(self.owners(found)) > 1:
            raise Ambiguous
        return found

    def find(self, name: Name, now: int) -> str | None:
        found = self.matching(name, now)
        return self.root(found[0].owner) if found else None

    def revoked(self, name: Name, now: int) -> bool:
        return any(row.secret and row.name.text == name.text for row in self.rows)

    # Changes

    def add_user(self, user_id: str, now: int, *, established: bool) -> None:
        assert user_id not in self.users
        self.users[user_id] = User(now, established)
        self.gone.discard(user_id)

    def add_row(self, name: Name, owner: str, *, expires: int | None = None, verified: bool = False) -> None:
        self.orders += 1
        self.rows.append(
            Row(name, name.real_type, name.scope, name.secret, owner, self.orders, expires=expires, verified=verified)
        )

    def delete(self, root: str) -> None:
        people = self.person(root)
        for user_id in people:
            del self.users[user_id]
            self.gone.add(user_id)
        for row in [row for row in self.rows if row.owner in people]:
            row.unlinked = True  # a secret's tombstone stays
            if not row.secret:
                self.rows.remove(row)

    # Linking

    def plan(self, request: list[Item], user: str | Name | None, mode: str, verified: bool, now: int) -> Plan:
        plan = Plan()
        if isinstance(user, Name):
            try:
                plan.given = self.find(user, now)
            except Ambiguous:
                plan.errors.add(AmbiguousIdentifierError)
            else:
                if plan.given is None:
                    plan.errors.add(UserNotFoundError)
        elif user is not None:
            if user in self.users:
                plan.given = self.root(user)
            else:
                plan.errors.add(UserNotFoundError)
        items = self._distinct(request)
        claimed: list[Row] = []
        for item in items:
            if item.expires is not None and item.expires <= now:
                plan.errors.add(InvalidRequestError)
            try:
                item.rows = [row for row in self._same(item.name, now) if row not in claimed]
            except Ambiguous:
                plan.errors.add(AmbiguousIdentifierError)
                continue
            claimed += item.rows
            if not item.rows and self.revoked(item.name, now):
                plan.errors.add(InvalidIdentifierError)
        if not plan.errors & {UserNotFoundError, AmbiguousIdentifierError}:
            self._decide(plan, items, mode, verified, now)
        return plan

    def _distinct(self, request: list[Item]) -> list[Item]:
        kept: list[Item] = []
        for item in sorted(request, key=lambda item: item.name.type is None):  # typed ones first
            name = item.name
            for other in (one.name for one in kept):
                if name.type is None and other.type is not None:
                    same = normal(name.text, other.type) == normal(other.text, other.type)
                else:
                    same = (name.real_type, name.scope, normal(name.text, name.real_type)) == (
                        other.real_type,
                        other.scope,
                        normal(other.text, other.real_type),
                    )
                if same:
                    break
            else:
                kept.append(item)
        return sorted(kept, key=lambda item: item.position)

    def _same(self, name: Name, now: int) -> list[Row]:
        if name.type is None:
            return self.matching(name, now)
        live = [row for row in self.rows if row.live(now)]
        exact = [row for row in live if (row.type, row.scope) == (name.type, name.scope) and row.has_text(name.text)]
        untyped = [
            row for row in live if row.type is None and normal(row.name.text, name.type) == normal(name.text, name.type)
        ]
        return exact + untyped

    def _decide(self, plan: Plan, items: list[Item], mode: str, verified: bool, now: int) -> None:
        given = plan.given

        def unproven(roots: set[str]) -> bool:
            return not any(self.established(root) for root in roots)

        def may_match(item: Item) -> bool:
            if given is not None or mode == "merge" or self.match == "any":
                return True
            return self.match == "verified" and all(row.verified for row in item.rows)

        for item in items:
            others = self.owners(item.rows) - {given}
            shared_device = item.name.type == "anonymous" and mode == "absorb"
            if shared_device and (not item.rows or not unproven(others)):
                plan.left.append(item)
        rest = [item for item in items if item not in plan.left]
        if not rest and given is None:
            plan.errors.add(InvalidRequestError)
            return
        lost = [
            item
            for item in rest
            if mode == "raise"
            and given is None
            and item.rows
            and (verified or item.verified)
            and unproven(self.owners(item.rows))
            and not any(row.verified for row in item.rows)
        ]
        matched = {root for item in rest if may_match(item) and item not in lost for root in self.owners(item.rows)}
        plan.survivor = given or min(
            matched, key=lambda root: (not self.established(root), self.users[root].created), default=None
        )
        conflicts: list[Item] = []
        absorbed: set[str] = set()
        for item in rest:
            others = self.owners(item.rows) - {plan.survivor}
            proved = verified or item.verified
            if not item.rows:
                plan.fresh.append(item)
            elif item in lost:
                plan.taken.append(item)  # proved now, and without proof before
            elif not others:
                plan.known.append(item)
            elif mode == "merge" or (mode == "absorb" and may_match(item) and unproven(others)):
                absorbed |= others
                plan.known.append(item)
            elif proved and unproven(others) and not any(row.verified for row in item.rows):
                plan.taken.append(item)
            else:
                conflicts.append(item)
        if conflicts:
            plan.errors.add(IdentifierConflictError)
            for item in conflicts if given else [item for item in rest if item.rows]:
                for owner in self.owners(item.rows) - {given}:
                    shown = next((row.shown for row in item.rows if row.secret), item.name.shown)
                    plan.conflicts.append((shown, item.name.real_type, owner))
            return
        plan.absorbed = sorted(absorbed, key=lambda root: self.users[root].created)
        if mode == "absorb":
            signed_in = any(item.name.type != "anonymous" for item in rest)
            plan.promoted = [
                item
                for item in plan.known
                if item.name.type == "anonymous"
                and unproven(self.owners(item.rows))
                and (signed_in or self.owners(item.rows) - {plan.survivor})
            ]
            plan.known = [item for item in plan.known if item not in plan.promoted]
        self._check_limits(plan, now)

    def _gains_type(self, item: Item) -> bool:
        return item.rows[0].type is None and item.name.real_type is not None

    def _check_limits(self, plan: Plan, now: int) -> None:
        gaining = [item for item in plan.known if self._gains_type(item)]
        if not (plan.fresh or plan.taken or plan.absorbed or gaining):
            return
        leaving = [row for item in [*plan.taken, *plan.promoted] for row in item.rows]
        types = [item.name.real_type for item in [*plan.fresh, *plan.taken]]
        for root in [*plan.absorbed, *([plan.survivor] if plan.survivor else [])]:
            for row in self.rows_of(root, now):
                if row not in leaving:
                    gained = next((item.name.real_type for item in gaining if item.rows[0] is row), row.type)
                    types.append(gained)
        if len(types) > self.limit or any(types.count(kind) > most for kind, most in self.caps.items()):
            plan.errors.add(IdentifierLimitError)

    def apply(self, plan: Plan, user_id: str, verified: bool, now: int) -> None:
        if plan.survivor is None:
            self.add_user(user_id, now, established=True)
        for root in plan.absorbed:
            self.users[root].parent = user_id
        self.users[user_id].established = True
        for item in plan.known:
            row = item.rows[0]
            if self._gains_type(item):
                row.type, row.scope, row.secret = item.name.real_type, item.name.scope, item.name.secret
            row.verified |= verified or item.verified
            row.expires = item.expires or row.expires
        for item in [*plan.taken, *plan.promoted]:
            for row in item.rows:
                row.unlinked = True
        for item in sorted([*plan.fresh, *plan.taken], key=lambda item: item.position):
            self.add_row(item.name, user_id, expires=item.expires, verified=verified or item.verified)


@dataclass
class World:
    """What all examples on one database share."""

    database: Database
    config: FormationConfig
    loop: asyncio.AbstractEventLoop
    time: Time
    steps: int = 0
    hits: int = 0
    seen: Counter[str] = field(default_factory=Counter)


class IdentityMachine(RuleBasedStateMachine):
    """One example: three formations, each with its model."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.formations: list[tuple[Formation, Model, Lookup]] = []

    def run(self, work: Any) -> Any:
        return self.world.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        for match, limit, caps in (("any", 5, {"slack": 2}), ("verified", 100, {}), ("none", 100, {})):
            config = FormationConfig.from_mapping(
                {
                    "id": f"machine-{secrets.token_hex(8)}",
                    "identity": {
                        "match": match,
                        "max_identifiers_per_user": limit,
                        "types": {kind: {"max_per_user": most} for kind, most in caps.items()},
                    },
                },
                base=Path("/nowhere"),
            )
            self.formations.append(self.run(self._open(config, Model(match, limit, caps))))

    async def _open(self, config: FormationConfig, model: Model) -> tuple[Formation, Model, Lookup]:
        config = FormationConfig(
            id=config.id,
            database=self.world.config.database,
            identity=config.identity,
            secret_key=self.world.config.secret_key,
        )
        formation = Formation(config, database=self.world.database, clock=Clock(lambda: self.world.time.at))
        await formation.open()
        # Around the cache: another reader of the same database, with a cache that keeps nothing.
        cold = Lookup(self.world.database, config.id, IdentityCache(0.0, 1), formation._bucket, formation._clock.now)
        return formation, model, cold

    def teardown(self) -> None:
        for formation, _, cold in self.formations:
            self.world.hits += formation.cache.hits
            self.run(cold.close())
            self.run(formation.close())

    # Rules. What a step does is drawn by chance from one number: drawn piece by piece, the pieces are mostly the
    # simplest ones, and few steps meet anything that was there before.

    luck = st.integers(0, 2**64 - 1)

    def begin(self, luck: int) -> tuple[Random, int, Formation, Model, int]:
        self.world.time.at += 1_000
        self.world.steps += 1
        chance = Random(luck)
        which = chance.choice([0, 0, 0, 1, 1, 2])
        formation, model, _ = self.formations[which]
        return chance, which, formation, model, self.world.time.at

    def attempt(self, work: Any) -> tuple[Any, MuxiError | None]:
        try:
            return self.run(work), None
        except MuxiError as error:
            self.world.seen[error.code] += 1
            return None, error

    def some_name(self, chance: Random, model: Model) -> Name:
        """Mostly one that somebody has."""
        texts = {row.name.text for row in model.rows}
        known = [name for name in NAMES if name.text in texts]
        return chance.choice(known if known and chance.random() < 0.7 else NAMES)

    def some_id(self, chance: Random, model: Model) -> str:
        """Mostly one that is there, merged ones too; at times one that is gone or never was."""
        if model.users and chance.random() < 0.95:
            return chance.choice(sorted(model.users, key=lambda one: model.users[one].created))
        return chance.choice([*sorted(model.gone), "usr_nobody"])

    @rule(luck=luck)
    def create_user(self, luck: int) -> None:
        chance, which, formation, model, now = self.begin(luck)
        user_id = chance.choice([None, "usr_alice", "usr_bob"])
        note(f"create_user({user_id}) in {which}")
        made, error = self.attempt(formation.create_user(user_id, CALLER))
        if user_id in model.users:
            assert type(error) is UserExistsError
        else:
            assert error is None
            assert user_id in (None, made["muxi_user_id"])
            model.add_user(made["muxi_user_id"], now, established=True)
        self.check(which)

    @rule(luck=luck)
    def resolve(self, luck: int) -> None:
        chance, which, formation, model, now = self.begin(luck)
        name, create = self.some_name(chance, model), chance.random() < 0.8
        note(f"resolve({name}, create={create}) in {which}")
        found, error = self.attempt(formation.resolve(formation.parse(name.given), create=create, caller=CALLER))
        try:
            known = model.find(name, now)
        except Ambiguous:
            assert type(error) is AmbiguousIdentifierError
        else:
            if known is not None:
                assert error is None
                assert (found["muxi_user_id"], found["created"]) == (known, False)
            elif not create or name.secret or model.revoked(name, now):
                assert type(error) is UserNotFoundError
            else:
                assert error is None
                assert found["created"]
                model.add_user(found["muxi_user_id"], now, established=False)
                model.add_row(name, found["muxi_user_id"])
        self.check(which)

    @rule(luck=luck)
    def first_contact(self, luck: int) -> None:
        self.resolve(luck)

    @rule(luck=luck)
    def associate(self, luck: int) -> None:
        chance, which, formation, model, now = self.begin(luck)
        request, given = [], []
        for position in range(chance.choice([1, 1, 2, 2, 3, 4])):
            name, proved = self.some_name(chance, model), chance.random() < 0.15
            seconds = None if name.type == "anonymous" else chance.choice([None, None, None, None, None, 10.0, 10.0])
            if chance.random() < 0.02 and seconds is not None:
                seconds = -1.0
            expires = None if seconds is None else now + int(seconds * 1e6)
            request.append(Item(position, name, expires, proved))
            given.append(name.given if expires is None and not proved else _whole(name, expires, proved))
        how = chance.random()
        user: str | Name | None = self.some_id(chance, model) if how < 0.4 and model.users else None
        if how > 0.9:
            user = self.some_name(chance, model)
        mode: Any = chance.choice(["raise", "absorb", "absorb", "merge"])
        verified, keyed = chance.random() < 0.2, chance.random() < 0.3
        note(f"associate({given}, {user}, on_conflict={mode}, verified={verified}, keyed={keyed}) in {which}")
        plan = model.plan(request, user, mode, verified, now)
        done, error = self.attempt(
            formation.associate(
                given,
                user.given if isinstance(user, Name) else user,
                on_conflict=mode,
                verified=verified,
                idempotency_key=secrets.token_hex(8) if keyed else None,
                caller=CALLER,
            )
        )
        if plan.errors:
            assert type(error) in plan.errors, (error, plan)
            if isinstance(error, IdentifierConflictError):
                named = [(one["identifier"], one["type"], one["muxi_user_id"]) for one in error.conflicts]
                assert sorted(named, key=repr) == sorted(plan.conflicts, key=repr)
        else:
            assert error is None, (error, plan)
            if plan.survivor is not None:
                assert done["muxi_user_id"] == plan.survivor
            shown = _shown(request, plan)
            assert done == {
                "muxi_user_id": done["muxi_user_id"],
                "created": plan.survivor is None,
                "identifiers": [
                    {"identifier": one, "type": item.name.real_type} for one, item in zip(shown, request, strict=True)
                ],
                "new_identifiers": [shown[at] for at in _positions(plan.fresh, plan.taken)],
                "existing_identifiers": [shown[at] for at in _positions(plan.known, plan.promoted)],
                "skipped": [shown[at] for at in _positions(plan.left)],
                "merge_ids": done["merge_ids"],
            }
            assert len(done["merge_ids"]) == len(plan.absorbed)
            for part in ("fresh", "known", "taken", "promoted", "left", "absorbed"):
                self.world.seen[part] += bool(getattr(plan, part))
            model.apply(plan, done["muxi_user_id"], verified, now)
            self.check_person(which, done["muxi_user_id"])
        self.check(which)

    @rule(luck=luck)
    def link(self, luck: int) -> None:
        self.associate(luck)

    @rule(luck=luck)
    def link_again(self, luck: int) -> None:
        self.associate(luck)

    @rule(luck=luck)
    def unlink(self, luck: int) -> None:
        chance, which, formation, model, now = self.begin(luck)
        name, force = self.some_name(chance, model), chance.random() < 0.5
        note(f"unlink({name}, force={force}) in {which}")
        done, error = self.attempt(formation.unlink(name.given, force=force, caller=CALLER))
        exact = [
            row
            for row in model.rows
            if name.type is not None and row.live(now) and (row.type, row.scope) == (name.type, name.scope)
        ]
        try:
            rows = [row for row in exact if row.has_text(name.text)] or model.matching(name, now)
        except Ambiguous:
            assert type(error) is AmbiguousIdentifierError
        else:
            if not rows:
                assert type(error) is IdentifierNotFoundError
            elif len(rows) > 1:
                assert type(error) is AmbiguousIdentifierError  # which one of the person's?
            else:
                owner = model.root(rows[0].owner)
                if not force and len(model.rows_of(owner, now)) == 1:
                    assert type(error) is LastIdentifierError
                    assert error.user_id == owner
                else:
                    assert error is None
                    assert done["muxi_user_id"] == owner
                    assert done["identifier"] == (rows[0].shown if rows[0].secret else name.shown)
                    rows[0].unlinked = True
                    self.world.seen["unlinked"] += 1
                    self.check_person(which, owner)
        self.check(which)

    @rule(luck=luck)
    def delete_user(self, luck: int) -> None:
        chance, which, formation, model, now = self.begin(luck)
        if chance.random() < 0.6:  # a world where everybody is always deleted shows little
            return
        named = self.some_name(chance, model) if chance.random() < 0.3 else self.some_id(chance, model)
        include_merged = chance.random() < 0.5
        note(f"delete_user({named}, include_merged={include_merged}) in {which}")
        if isinstance(named, str):
            root = model.root(named) if named in model.users else None
            reference = formation.parse(named)
        else:
            reference = formation.parse(named.given)
            try:
                root = model.find(named, now)
            except Ambiguous:
                root = "ambiguous"
        done, error = self.attempt(formation.delete_user(reference, include_merged=include_merged, caller=CALLER))
        if root == "ambiguous":
            assert type(error) is AmbiguousIdentifierError
        elif root is None:
            assert type(error) is UserNotFoundError
        elif len(model.person(root)) > 1 and not include_merged:
            assert type(error) is MergeConflictError
            assert set(error.merged_users) == set(model.person(root)) - {root}
        else:
            assert error is None
            assert done["muxi_user_id"] == root
            assert set(done["merged_users"]) == set(model.person(root)) - {root}
            model.delete(root)
            self.world.seen["deleted"] += 1
        self.check(which)

    @rule(seconds=st.sampled_from([5.0, 10.0, 7200.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time.advance(seconds)
        for which, (formation, _, _) in enumerate(self.formations):
            # What the machine's clock would have made it do meanwhile.
            if isinstance(formation._coherence, SqlitePoll):
                formation._coherence._poll()
            elif isinstance(formation._coherence, Listening):
                formation._coherence.extend(now := self.world.time.monotonic(), now)
            self.check(which)

    # After every step

    def check(self, changed: int) -> None:
        """Ask for everything: through the cache everywhere, around it where something happened."""
        self.run(self._check(changed))

    async def _check(self, changed: int) -> None:
        now = self.world.time.at
        for which, (formation, model, cold) in enumerate(self.formations):
            expected: list[str | type[Exception] | None] = []
            for name in NAMES:
                try:
                    expected.append(model.find(name, now))
                except Ambiguous:
                    expected.append(AmbiguousIdentifierError)
            ids = [*model.users, *sorted(model.gone)[:3]]
            expected += [model.root(one) if one in model.users else None for one in ids]
            references = [formation.parse(name.given) for name in NAMES] + [formation.parse(one) for one in ids]
            through = await _all(formation.find(reference) for reference in references)
            assert through == expected, f"through the cache of formation {which}"
            if which == changed:
                answers = await _all(_cold(cold, reference) for reference in references)
                assert answers == expected, f"around the cache of formation {which}"

    def check_person(self, which: int, root: str) -> None:
        formation, model, _ = self.formations[which]
        now = self.world.time.at
        rows = sorted(model.rows_of(root, now), key=lambda row: row.order)
        records = self.run(formation.identifiers_of(formation.parse(root)))
        assert [(one["identifier"], one["type"], one["scope"], one["verified"]) for one in records] == [
            (row.shown, row.type, row.scope, row.verified) for row in rows
        ]
        for member in model.person(root):
            user = self.run(formation.get_user(formation.parse(member)))
            assert user["muxi_user_id"] == root
            assert user["merged_into"] == (None if member == root else root)
            assert sorted(user["merged_users"]) == sorted(set(model.person(root)) - {root})
            assert user["established"] == model.established(root)
            assert user["identifier_count"] == len(rows)


def _whole(name: Name, expires: int | None, proved: bool) -> dict[str, Any]:
    whole: dict[str, Any] = {"identifier": name.text, "verified": proved}
    if name.type is not None:
        whole["type"] = name.type
    if name.scope is not None:
        whole["scope"] = name.scope
    if expires is not None:
        whole["expires_at"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=expires)
    return whole


def _shown(request: list[Item], plan: Plan) -> list[str]:
    # A key shows its hint also where it was passed bare, once it is known for one.
    everything = [*plan.known, *plan.fresh, *plan.taken, *plan.promoted, *plan.left]
    keys = {item.name.text for item in everything if item.name.secret or any(row.secret for row in item.rows)}
    return [HINTS[item.name.text] if item.name.text in keys else item.name.text for item in request]


def _positions(*parts: list[Item]) -> list[int]:
    return sorted(item.position for part in parts for item in part)


async def _all(look_ups: Iterable[Coroutine[Any, Any, Any]]) -> list[str | type[Exception] | None]:
    """Ask at once: on PostgreSQL the misses are then looked up together."""
    return await asyncio.gather(*(_outcome(each) for each in look_ups))


async def _outcome(found: Coroutine[Any, Any, Any]) -> str | type[Exception] | None:
    try:
        answer = await found
    except AmbiguousIdentifierError:
        return AmbiguousIdentifierError
    except UserNotFoundError:
        return None
    return None if answer is None else answer["muxi_user_id"]


async def _cold(lookup: Lookup, reference: Any) -> dict[str, Any] | None:
    answer = await lookup.find(reference)
    return None if answer.hit is None else {"muxi_user_id": answer.hit.public_id}


@pytest.fixture
def world(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    time = Time()
    time.govern_caches(monkeypatch)
    database = shared_database(database_config.database)
    loop = asyncio.new_event_loop()
    yield World(database, database_config, loop, time)
    loop.run_until_complete(close_for_good(database))
    loop.close()


def test_agrees_with_the_model(world: World) -> None:
    class Machine(IdentityMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 24,
            stateful_step_count=50,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking a long run takes minutes; a short one is made small.
            phases=[Phase.generate] if EXAMPLES else [Phase.generate, Phase.shrink],
        ),
    )
    if EXAMPLES:
        print(f"{world.steps} steps, {world.hits} hits, {world.seen}")
    # That it met what it is about, and asked the cache, which answered.
    assert world.steps > 500
    assert world.hits > world.steps
    assert min(world.seen[what] for what in ("fresh", "known", "absorbed", "unlinked", "deleted")) >= 3
    assert world.seen["IDENTIFIER_CONFLICT"] > 5
    assert world.seen["AMBIGUOUS_IDENTIFIER"] > 5
