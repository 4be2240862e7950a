"""The hot statements, as text: they are prepared once and sent raw.

``?1`` in SQLite is ``$1`` in PostgreSQL; everything else that both understand is written once.
"""

_EVERY_ROW = """
SELECT i.bucket, i.pk, i.user_pk, i.type, i.scope, i.value, i.spelling, i.secret, i.unlinked_at, i.expires_at,
       i.verified_at, m.root_pk, r.public_id
  FROM muxi_identifiers i
  LEFT JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk
  LEFT JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
 WHERE i.formation_id = {first} AND {bucket}"""
_ROWS = f"""{_EVERY_ROW} AND (i.unlinked_at IS NULL OR i.secret)
 ORDER BY i.bucket, i.slot"""

# Tombstones too: a bucket that was ever used is no free one.
READ_BUCKET_SQLITE = f"{_EVERY_ROW} ORDER BY i.slot".format(first="?1", bucket="i.bucket = ?2")
READ_BUCKETS = f"{_EVERY_ROW} ORDER BY i.bucket, i.slot".format(first="$1", bucket="i.bucket = ANY ($2::bytea[])")

LOOK_UP_ONE_SQLITE = _ROWS.format(first="?1", bucket="i.bucket = ?2")
LOOK_UP_ONE = _ROWS.format(first="$1", bucket="i.bucket = $2")
LOOK_UP_MANY = _ROWS.format(first="$1", bucket="i.bucket = ANY ($2::bytea[])")

_MEMBERS = """
SELECT m.public_id, m.pk, m.root_pk, r.public_id AS root_public_id
  FROM muxi_users m
  JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
 WHERE m.formation_id = {first} AND {public_id}"""

FIND_MEMBER_SQLITE = _MEMBERS.format(first="?1", public_id="m.public_id = ?2")
FIND_MEMBERS = _MEMBERS.format(first="$1", public_id="m.public_id = ANY ($2::text[])")

# What a new identifier brings, in linking order. One array a column, so that one prepared statement serves any number.
_INPUT = """
  SELECT nextval('muxi_keys') AS pk, t.*
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::text[],
                $9::bigint[], $10::bigint[])
         WITH ORDINALITY
         AS t (bucket, type, scope, value, spelling, secret, metadata, verified_at, expires_at, position)"""

# Inserted in bucket order: two links of the same identifiers in another order would wait for each other for ever.
_INSERT_IDENTIFIERS = """
  INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, type, scope, value, spelling, secret,
                                metadata, source, linked_at, verified_at, expires_at)
  SELECT $1, i.pk, p.pk, i.bucket, 0, i.type, i.scope, i.value, i.spelling, i.secret,
         i.metadata, $12, $14, i.verified_at, i.expires_at
    FROM input i CROSS JOIN person p
   ORDER BY i.bucket"""

# Its keys are drawn here, after that of the person's own event: what has one time is told in the order of the keys.
_INSERT_LINK_HISTORY = """
  INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor, source, reason)
  SELECT $1, nextval('muxi_keys'), $14, 'identifier:link', p.public_id, i.pk, $11, $12, $13
    FROM input i CROSS JOIN person p
   ORDER BY i.position"""

# A new person, if all of its buckets are free. Foreign keys are checked when the statement ends, so the order of the
# parts does not matter; a lost race breaks (bucket, slot) and takes the whole statement back, the user with it.
CREATE_PERSON = f"""
WITH input AS MATERIALIZED ({_INPUT}
   WHERE NOT EXISTS (SELECT 1 FROM muxi_identifiers x WHERE x.formation_id = $1 AND x.bucket = ANY ($2::bytea[]))
   ORDER BY t.position),
person AS MATERIALIZED (
  SELECT nextval('muxi_keys') AS pk, nextval('muxi_keys') AS history_pk, $15::text AS public_id
   WHERE EXISTS (SELECT 1 FROM input)),
new_user AS (
  INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, established_at, created_at)
  SELECT $1, p.pk, p.public_id, p.pk, $16, $14 FROM person p),
linked AS ({_INSERT_IDENTIFIERS}),
created_event AS (
  INSERT INTO muxi_history (formation_id, pk, at, event, user_id, actor, source, reason)
  SELECT $1, p.history_pk, $14, 'user:create', p.public_id, $11, $12, $13 FROM person p),
linked_events AS ({_INSERT_LINK_HISTORY})
SELECT p.pk AS user_pk, array(SELECT i.pk FROM input i ORDER BY i.position) AS identifier_pks FROM person p"""  # noqa: S608 (put together from the constants above)

# First contact: the rows of a bucket, tombstones too, or, if it was never used, a new person with that one identifier
# and its row. The same as a look-up and CREATE_PERSON in turn, without the second round trip, and without arrays.
FIND_OR_CREATE = f"""
WITH found AS MATERIALIZED ({_EVERY_ROW.format(first="$1", bucket="i.bucket = $2")}
 ORDER BY i.slot),
person AS MATERIALIZED (
  SELECT nextval('muxi_keys') AS pk, nextval('muxi_keys') AS identifier_pk,
         nextval('muxi_keys') AS created_pk, nextval('muxi_keys') AS linked_pk
   WHERE NOT EXISTS (SELECT 1 FROM found)),
new_user AS (
  INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, created_at)
  SELECT $1, p.pk, $12::text, p.pk, $11::bigint FROM person p),
linked AS (
  INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, type, scope, value, spelling, secret,
                                metadata, source, linked_at, verified_at, expires_at)
  SELECT $1, p.identifier_pk, p.pk, $2, 0, $3::text, $4::text, $5::text, $6::text, false,
         $7::text, $9::text, $11, $13::bigint, $14::bigint
    FROM person p),
events AS (
  INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor, source, reason)
  SELECT $1, p.created_pk, $11, 'user:create', $12, NULL, $8::text, $9, $10::text FROM person p
   UNION ALL
  SELECT $1, p.linked_pk, $11, 'identifier:link', $12, p.identifier_pk, $8, $9, $10 FROM person p)
SELECT f.* FROM found f
 UNION ALL
SELECT $2, p.identifier_pk, p.pk, $3, $4, $5, $6, false, NULL, $14, $13, p.pk, $12 FROM person p"""  # noqa: S608 (put together from the constants above)

# New identifiers for a person that exists, if all of their buckets are free and the person, read by this statement,
# is still the same when its root is locked: every change of a person raises the root's version. $16 and $17: how
# many identifiers a person may have, in all and by type.
EXTEND_PERSON = f"""
WITH member AS MATERIALIZED (
  SELECT m.pk, r.public_id, r.pk AS root_pk, r.version
    FROM muxi_users m JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
   WHERE m.formation_id = $1 AND m.public_id = $15
     AND NOT EXISTS (SELECT 1 FROM muxi_identifiers x WHERE x.formation_id = $1 AND x.bucket = ANY ($2::bytea[]))),
held AS MATERIALIZED (
  SELECT i.type, count(*) AS number
    FROM member p
    JOIN muxi_users m ON m.formation_id = $1 AND m.root_pk = p.root_pk
    JOIN muxi_identifiers i ON i.formation_id = $1 AND i.user_pk = m.pk
   WHERE i.unlinked_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > $14)
   GROUP BY i.type),
root AS (
  UPDATE muxi_users u SET version = u.version + 1, established_at = coalesce(u.established_at, $14)
    FROM member p
   WHERE u.formation_id = $1 AND u.pk = p.root_pk AND u.version = p.version
     AND (SELECT coalesce(sum(number), 0) FROM held) + cardinality($2::bytea[]) <= $16
     AND NOT EXISTS (
       SELECT 1 FROM unnest($17::text[], $18::bigint[]) AS cap (type, most)
        WHERE coalesce((SELECT number FROM held WHERE held.type = cap.type), 0) > cap.most)
  RETURNING u.pk),
person AS MATERIALIZED (SELECT p.pk, p.public_id FROM member p JOIN root ON root.pk = p.root_pk),
input AS MATERIALIZED ({_INPUT} WHERE EXISTS (SELECT 1 FROM person) ORDER BY t.position),
linked AS ({_INSERT_IDENTIFIERS}),
linked_events AS ({_INSERT_LINK_HISTORY})
SELECT p.pk AS user_pk, p.public_id, array(SELECT i.pk FROM input i ORDER BY i.position) AS identifier_pks
  FROM person p"""  # noqa: S608 (put together from the constants above)
