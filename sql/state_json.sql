-- Import of state files as their users see it: the report, and the tasks that come of it.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.file(content text) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(content, 'UTF8') $$;
CREATE FUNCTION pg_temp.file(content text, VARIADIC hex text[]) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(content, 'UTF8') || decode(string_agg(h, '' ORDER BY o), 'hex') FROM unnest(hex) WITH ORDINALITY AS u (h, o) $$;

\echo -- forms of a file
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file('{"version": 2, "tasks": [{"id": "a", "kind": "k", "state": "pending"}, {"id": "b", "kind": "k", "state": "done"}]}'));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file('{"a": {"kind": "k", "status": "completed"}, "b": {"kind": "k", "status": "queued"}}'));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file(E'{"task_id": 1, "type": "k", "status": "success"}\n{"task_id": 2, "type": "k", "status": "error"}\n'));

\echo -- documents behind each other, a tail that was cut off, commas
SELECT action, task_id, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file(
    '[{"id": "a", "kind": "k", "state": "pending", "version": 1}][{"id": "a", "kind": "k", "state": "done", "version": 2,}, {"id": "b", "kind": "k", "sta'));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "a", "kind": "k", "state": "done"}, {"id": "b", "kind": "k", "state": "done", "payload": {"x": 1}'));

\echo -- the same id again
SELECT action, byte_offset, reason FROM tandem.import_state_json(pg_temp.file(
    '[{"id": "a", "kind": "k", "state": "done", "version": 2}, {"id": "a", "kind": "k", "state": "pending", "version": 1}, {"id": "b", "kind": "k", "state": "done"}, {"id": "b", "kind": "k", "state": "done"}, {"id": "b", "kind": "k", "state": "failed"}]'));

\echo -- what cannot be a task
SELECT action, byte_offset, reason FROM tandem.import_state_json(pg_temp.file(
    '[{"id": "a", "kind": "k", "state": "sleeping"}, {"id": "b", "kind": "tandem.backfill", "state": "pending"}, {"id": "c", "kind": "", "state": "pending"}, {"kind": "k", "state": "pending"}, {"hello": "world"}]'));

\echo -- bytes
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json('\xefbbbf'::bytea || pg_temp.file('{"id": "a", "kind": "k", "state": "done", "note": "', 'ff00', '227d', '0000'));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "a", "kind": "k", "state": "done", "n": [1e999999, None, NaN, 007], "s": "\ud800 \u0000"}]'));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json('\xfffe5b007b0022006900640022003a0031002c0022007300740061007400650022003a0022006f006b0022007d005d00'::bytea);
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file(repeat('[', 100000) || '{"id": "a", "kind": "k", "state": "done"}' || repeat(']', 100000)));
SELECT action, byte_offset, byte_length, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "a", "kind": "k", "state": "done", "payload": ' || repeat('[', 5000) || repeat(']', 5000) || '}]'));
SELECT * FROM tandem.import_state_json('');
SELECT * FROM tandem.import_state_json('\x00');
SELECT * FROM tandem.import_state_json(pg_temp.file('no JSON at all'));
SELECT * FROM tandem.import_state_json(NULL);
SELECT * FROM tandem.import_state_json('', NULL);
SELECT count(*) FROM tandem.task WHERE kind = 'k';

BEGIN;
\echo -- the import itself, again, and with a later version
SELECT action, byte_offset, reason FROM tandem.import_state_json(pg_temp.file(
    '[{"id": "00000000-0000-0000-0000-00000000000A", "kind": "k", "state": "pending", "version": 3, "priority": "urgent", "data": {"x": 1}, "tags": ["t"], "created_at": "2024-05-01T12:00:00"},
      {"id": "job-7", "kind": "k", "state": "done", "version": 5, "created_at": 1714564800}]'), false);
SELECT id, kind, state, version, severity, priority, payload, idem_key, created_at, finished_at FROM tandem.task WHERE kind = 'k' ORDER BY id;
SELECT kind, count(*) FROM tandem.event WHERE kind LIKE '%import%' GROUP BY 1 ORDER BY 1;
SELECT action, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "job-7", "kind": "k", "state": "done", "version": 5}]'), false);
SELECT action, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "job-7", "kind": "k", "state": "pending", "version": 6}]'), false);
SELECT action, reason FROM tandem.import_state_json(pg_temp.file('[{"id": "0000000000000000000000000000000a", "kind": "k", "state": "cancelled", "version": 9}]'), false);
SELECT state, version FROM tandem.task WHERE idem_key IS NULL AND kind = 'k';
SELECT d ->> 'kind', d ->> 'state', d -> 'version', d -> 'payload' FROM jsonb_array_elements(tandem.export_state_json()) AS d WHERE d ->> 'kind' = 'k';
ROLLBACK;
