-- SPDX-License-Identifier: MIT
-- storage.dialect: what SQLite and PostgreSQL say differently. The rest of the SQL, in keyval, archive and database, is both's.
--
-- A dialect: schema[i] leads from version i - 1 to i; put: the end of the statement that stores a key; row, rows: what names
-- a row of `archive` and, in a query with the alias a, rows of it; age: the number, for ranges over everybody's items; free:
-- a number of the millisecond that begins with ?4, for an item of OWNER; day: of a number; size: bytes of a stanza; enter:
-- the values of an item under a number made before it, where the same again changes nothing, and what is missing, or the
-- number being another item's, leaves no value, which the schema refuses; enter_known: the same with the numbers of owner and
-- peer, which must still be those of these names; plans_ahead: how a statement is done is decided
-- before its parameters are known, so that it should say itself how few rows are wanted. by_time, by_peer: (owner, id) and
-- (owner, peer, id) of all items, to be looked up in this order, `archive` itself where it has such indexes; items: those of
-- OWNER; settle: see couplet.storage.settle.
-- append, append_batch, enter_batch: statements that are also there for many at once, with arrays in place of values
-- (core/store/store.h).

local dialect = {}

local TAKEN = " ON CONFLICT (id) DO UPDATE SET value = CASE WHEN owner = excluded.owner THEN excluded.value END"

dialect.sqlite = {
  schema = {
    [[
  CREATE TABLE collection (            -- a store of a host
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, kind TEXT NOT NULL, store TEXT NOT NULL, UNIQUE (host, kind, store));
  CREATE TABLE keyval (
    collection INTEGER NOT NULL, user TEXT NOT NULL, key NOT NULL, value NOT NULL,
    PRIMARY KEY (collection, user, key)) WITHOUT ROWID;
  CREATE INDEX keyval_key ON keyval (collection, key);
  CREATE TABLE jid (id INTEGER PRIMARY KEY, jid TEXT NOT NULL UNIQUE);
  CREATE TABLE owner (                 -- whose archive
    id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, user TEXT NOT NULL, UNIQUE (collection, user));
  CREATE TABLE archive (               -- id: milliseconds << 20 | counter, which is order and time filter at once
    id INTEGER PRIMARY KEY, owner INTEGER NOT NULL, peer INTEGER, key TEXT, type TEXT, value NOT NULL);
  CREATE INDEX archive_owner ON archive (owner);
  CREATE INDEX archive_peer ON archive (owner, peer);
  CREATE UNIQUE INDEX archive_key ON archive (owner, key) WHERE key IS NOT NULL;
    ]], [[
  -- Each account has leaves of its own in an index, so that an item that goes into two of them at once costs more pages than
  -- ten items cost in `archive`. New ones therefore go into a small table first, and into these many at a time.
  CREATE TABLE archive_by_owner (owner INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (owner, id)) WITHOUT ROWID;
  CREATE TABLE archive_by_peer (                               -- peer 0: none
    owner INTEGER NOT NULL, peer INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (owner, peer, id)) WITHOUT ROWID;
  CREATE TABLE archive_fresh (                                 -- what is in neither of them
    owner INTEGER NOT NULL, id INTEGER NOT NULL, peer INTEGER NOT NULL, PRIMARY KEY (owner, id)) WITHOUT ROWID;
  INSERT INTO archive_by_owner SELECT owner, id FROM archive ORDER BY owner, id;
  INSERT INTO archive_by_peer SELECT owner, coalesce(peer, 0), id FROM archive ORDER BY owner, peer, id;
  DROP INDEX archive_owner;
  DROP INDEX archive_peer;
  CREATE VIEW archive_time AS SELECT owner, id FROM archive_by_owner UNION ALL SELECT owner, id FROM archive_fresh;
  CREATE VIEW archive_talk AS
    SELECT owner, peer, id FROM archive_by_peer UNION ALL SELECT owner, peer, id FROM archive_fresh;
  CREATE TRIGGER archive_added AFTER INSERT ON archive BEGIN
    INSERT INTO archive_fresh VALUES (NEW.owner, NEW.id, coalesce(NEW.peer, 0));
  END;
  CREATE TRIGGER archive_removed AFTER DELETE ON archive BEGIN
    DELETE FROM archive_fresh WHERE owner = OLD.owner AND id = OLD.id;
    DELETE FROM archive_by_owner WHERE owner = OLD.owner AND id = OLD.id;
    DELETE FROM archive_by_peer WHERE owner = OLD.owner AND peer = coalesce(OLD.peer, 0) AND id = OLD.id;
  END;
  CREATE TRIGGER archive_peer_changed AFTER UPDATE OF peer ON archive BEGIN
    UPDATE archive_fresh SET peer = coalesce(NEW.peer, 0) WHERE owner = OLD.owner AND id = OLD.id;
    UPDATE archive_by_peer SET peer = coalesce(NEW.peer, 0)
      WHERE owner = OLD.owner AND peer = coalesce(OLD.peer, 0) AND id = OLD.id;
  END;
    ]],
  },
  by_time = "archive_time", by_peer = "archive_talk",
  items = "archive WHERE id IN (SELECT id FROM archive_time WHERE owner = OWNER)",
  settle = {
    count = "SELECT count(*) FROM archive_fresh",
    upto = "SELECT max(owner) FROM (SELECT owner FROM archive_fresh WHERE owner > ?1 ORDER BY owner LIMIT ?2)",
    "INSERT INTO archive_by_owner SELECT owner, id FROM archive_fresh WHERE owner > ?1 AND owner <= ?2",
    "INSERT INTO archive_by_peer SELECT owner, peer, id FROM archive_fresh WHERE owner > ?1 AND owner <= ?2"
      .. " ORDER BY owner, peer, id",
    "DELETE FROM archive_fresh WHERE owner > ?1 AND owner <= ?2",
  },
  put = "WHERE value IS NOT excluded.value OR typeof(value) <> typeof(excluded.value)",
  row = "id", rows = "a.id", age = "id",
  free = "coalesce((SELECT max(id) + 1 FROM archive WHERE id >= ?4 AND id < ?4 + 1048576), ?4)",
  day = "date((id >> 20) / 1000, 'unixepoch')",
  size = "length(CAST(value AS BLOB))",
  enter = "SELECT ?4, OWNER, NULL, 'xml', CASE WHEN peer IS NULL THEN NULL ELSE ?5 END, peer"
    .. " FROM (SELECT (SELECT id FROM jid WHERE jid = ?6) AS peer) WHERE true" .. TAKEN,
  enter_known = "VALUES (?1, ?2, NULL, 'xml', CASE WHEN EXISTS"
    .. " (SELECT 1 FROM owner WHERE id = ?2 AND user = ?5 AND collection = ?6)"
    .. " AND EXISTS (SELECT 1 FROM jid WHERE id = ?4 AND jid = ?7) THEN ?3 END, ?4)" .. TAKEN,
}

-- The same item again is no conflict.
local SAME = " ON CONFLICT (owner, id) DO UPDATE SET value = CASE WHEN archive.value = excluded.value"
  .. " AND archive.key IS NOT DISTINCT FROM excluded.key AND archive.peer IS NOT DISTINCT FROM excluded.peer"
  .. " THEN excluded.value END"

-- Fails as a whole, by a division, unless every row was inserted and every peer was known.
local BATCH = [[
  WITH added AS (INSERT INTO archive (id, owner, key, type, value, peer)
    SELECT r.id, (SELECT o.id FROM owner o JOIN collection c ON c.id = o.collection
                  WHERE c.host = r.host AND c.kind = 'archive' AND c.store = r.store AND o."user" = r.who),
      %s, r.value, (SELECT jid.id FROM jid WHERE jid.jid = r.peer)
    FROM unnest(?1::text[], ?2::text[], ?3::text[], %s) AS r(host, store, who, %s)%s RETURNING peer)
  SELECT 1 / (count(*) = cardinality(?4) AND count(peer) = %s)::int FROM added]]

-- Values and keys are bytea, in our own encoding; text is text, escaped where PostgreSQL cannot hold it (postgres_value.h).
-- The schema `couplet` keeps our tables apart from others'. Numbers are unique for an owner only, so that several
-- processes may append at once.
dialect.postgres = {
  schema = {
    [[
  CREATE TABLE collection (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, store text COLLATE "C" NOT NULL, UNIQUE (host, kind, store));
  CREATE TABLE keyval (
    collection bigint NOT NULL, "user" text COLLATE "C" NOT NULL, key bytea NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (collection, "user", key));
  CREATE INDEX keyval_key ON keyval (collection, key);
  CREATE TABLE jid (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, jid text COLLATE "C" NOT NULL UNIQUE);
  CREATE TABLE owner (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, collection bigint NOT NULL, "user" text COLLATE "C" NOT NULL,
    UNIQUE (collection, "user"));
  CREATE TABLE archive (
    owner bigint NOT NULL, id bigint NOT NULL, peer bigint, key text COLLATE "C", type text COLLATE "C", value bytea NOT NULL,
    PRIMARY KEY (owner, id));
  CREATE INDEX archive_peer ON archive (owner, peer, id);
  -- What is old goes in order of time. Not of `id` itself: an archive's page would be looked for along everybody's.
  CREATE INDEX archive_age ON archive ((id + 0));
  CREATE UNIQUE INDEX archive_key ON archive (owner, key) WHERE key IS NOT NULL;
    ]],
  },
  put = "WHERE keyval.value IS DISTINCT FROM excluded.value",
  row = "(owner, id)", rows = "a.owner, a.id", age = "(id + 0)", plans_ahead = true,
  by_time = "archive", by_peer = "archive", items = "archive WHERE owner = OWNER",
  free = "coalesce((SELECT max(id) + 1 FROM archive WHERE owner = OWNER AND id >= ?4 AND id < ?4 + 1048576), ?4)",
  -- Without the tag and the varint that lead a text in our encoding
  size = "length(value) - CASE WHEN type IS DISTINCT FROM 'xml' THEN 0 WHEN length(value) < 130 THEN 2"
    .. " WHEN length(value) < 16387 THEN 3 WHEN length(value) < 2097156 THEN 4 ELSE 5 END",
  day = "to_char(to_timestamp((id >> 20) / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
  enter = "SELECT ?4, OWNER, NULL, 'xml', CASE WHEN p.peer IS NULL THEN NULL ELSE CAST(?5 AS bytea) END, p.peer"
    .. " FROM (SELECT (SELECT id FROM jid WHERE jid = ?6) AS peer) p" .. SAME,
  append = "SELECT ?4, OWNER, ?5, ?6, ?7, (SELECT id FROM jid WHERE jid = ?8)"
    .. " WHERE CAST(?8 AS text) IS NULL OR EXISTS (SELECT 1 FROM jid WHERE jid = ?8)" .. SAME,
  append_batch = BATCH:format("r.key, r.type", "?4::bigint[], ?5::text[], ?6::text[], ?7::bytea[], ?8::text[]",
    "id, key, type, value, peer", "", "(SELECT count(p) FROM unnest(?8::text[]) p)"),
  enter_batch = BATCH:format("NULL, 'xml'", "?4::bigint[], ?5::bytea[], ?6::text[]", "id, value, peer", SAME, "count(*)"),
}

return dialect
