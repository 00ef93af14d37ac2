-- state_json: tasks out of a JSON state file as it is found, and into one again. docs/state_json.md tells the way of a migration.
--
-- C++ finds the records (src/core/json_documents) and lets PostgreSQL parse each (src/pg/state_json.cpp); what a record means as a task, and which of
-- several records counts, is decided here.

CREATE FUNCTION tandem.state_records(
    document bytea,
    OUT byte_offset bigint, OUT byte_length bigint, OUT verdict text, OUT reason text, OUT name text, OUT id text, OUT record jsonb)
RETURNS SETOF record
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'tandem_state_records';
COMMENT ON FUNCTION tandem.state_records IS
    'The parts of a state file: saved or repaired records, and what is lost or no task; brackets, commas and white space around them have no row';

CREATE FUNCTION tandem.import_task(task tandem.task, evidence jsonb, lease_token bigint) RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_import_task';
COMMENT ON FUNCTION tandem.import_task IS 'Makes a task of a state file, or takes over its later version; NULL, or the reason why not. For import_state_json()';

CREATE FUNCTION tandem.remove_task(id uuid, version bigint, evidence jsonb) RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_remove_task';
COMMENT ON FUNCTION tandem.remove_task IS 'Ends a task that has this version still, so that its row may go; NULL, or the reason why not. For state_back_out()';

CREATE FUNCTION tandem.state_id(id text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN id ~* '^[{]?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}[}]?$' AND (left(id, 1) = '{') = (right(id, 1) = '}') THEN id::uuid
                ELSE encode(set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 128), 8, get_byte(h, 8) & 63 | 128), 'hex')::uuid END
      FROM substr(sha256(convert_to('tandem.state:' || id, 'UTF8')), 1, 16) AS h
$$;
COMMENT ON FUNCTION tandem.state_id IS 'The UUID of an id of a state file: the same, or where it is none a UUID (version 8) by its hash';

-- What a program wrote for a time: ISO 8601 (without a zone: UTC), or seconds or milliseconds since 1970. NULL where it is none.
CREATE FUNCTION tandem.state_time(value jsonb) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    result timestamptz;
BEGIN
    IF jsonb_typeof(value) = 'number' THEN
        result := to_timestamp((value::numeric / CASE WHEN abs(value::numeric) >= 1e11 THEN 1000 ELSE 1 END)::double precision);
    ELSIF jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^\d{4}-\d\d-\d\d' THEN
        result := (value #>> '{}')::timestamptz;
    END IF;
    RETURN CASE WHEN isfinite(result) THEN result END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.state_time IS 'A time as state files have it; NULL where it is none';

CREATE FUNCTION tandem.state_of(name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE regexp_replace(lower(btrim(name)), '[ -]', '_', 'g')
           WHEN 'pending' THEN 'pending' WHEN 'new' THEN 'pending' WHEN 'created' THEN 'pending' WHEN 'queued' THEN 'pending' WHEN 'todo' THEN 'pending'
           WHEN 'open' THEN 'pending' WHEN 'ready' THEN 'pending' WHEN 'waiting' THEN 'pending' WHEN 'scheduled' THEN 'pending' WHEN 'retry' THEN 'pending'
           WHEN 'claimed' THEN 'claimed' WHEN 'assigned' THEN 'claimed' WHEN 'reserved' THEN 'claimed' WHEN 'locked' THEN 'claimed'
           WHEN 'running' THEN 'running' WHEN 'in_progress' THEN 'running' WHEN 'inprogress' THEN 'running' WHEN 'processing' THEN 'running'
           WHEN 'active' THEN 'running' WHEN 'started' THEN 'running' WHEN 'executing' THEN 'running'
           WHEN 'done' THEN 'done' WHEN 'completed' THEN 'done' WHEN 'complete' THEN 'done' WHEN 'success' THEN 'done' WHEN 'succeeded' THEN 'done'
           WHEN 'finished' THEN 'done' WHEN 'ok' THEN 'done' WHEN 'closed' THEN 'done' WHEN 'resolved' THEN 'done'
           WHEN 'failed' THEN 'failed' WHEN 'failure' THEN 'failed' WHEN 'error' THEN 'failed' WHEN 'errored' THEN 'failed' WHEN 'timeout' THEN 'failed'
           WHEN 'dead' THEN 'dead' WHEN 'dead_letter' THEN 'dead' WHEN 'discarded' THEN 'dead' WHEN 'exhausted' THEN 'dead'
           WHEN 'escalated' THEN 'escalated'
           WHEN 'cancelled' THEN 'cancelled' WHEN 'canceled' THEN 'cancelled' WHEN 'aborted' THEN 'cancelled' WHEN 'skipped' THEN 'cancelled' END
$$;
COMMENT ON FUNCTION tandem.state_of IS 'The state that a state file''s word means; NULL for a word that is not known';

-- A record as a task. `remarks`: how it was read. `notes`: what was put right. `refused`: why it is no task that could be saved.
CREATE FUNCTION tandem.state_task(record jsonb, name text, OUT task tandem.task, OUT remarks text[], OUT notes text[], OUT refused text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_id text := coalesce(record ->> 'id', record ->> 'task_id', record ->> 'taskId', record ->> 'uuid', name);
    id_name text := CASE WHEN record ->> 'id' IS NOT NULL THEN 'id' WHEN record ->> 'task_id' IS NOT NULL THEN 'task_id'
                         WHEN record ->> 'taskId' IS NOT NULL THEN 'taskId' ELSE 'uuid' END;
    payload_name text := CASE WHEN record ? 'payload' THEN 'payload' WHEN record ? 'data' THEN 'data' END;
    kind_name text := CASE WHEN record ->> 'kind' IS NOT NULL THEN 'kind' WHEN record ->> 'type' IS NOT NULL THEN 'type'
                           WHEN record ->> 'task_type' IS NOT NULL THEN 'task_type' ELSE 'taskType' END;
    state_name text := CASE WHEN record ->> 'state' IS NOT NULL THEN 'state' ELSE 'status' END;
    word text;
    payload jsonb;
    others jsonb;
    number numeric;
    at timestamptz := clock_timestamp();
BEGIN
    notes := '{}';
    remarks := '{}';
    task.id := tandem.state_id(old_id);
    IF task.id IS NULL OR old_id = '' THEN
        task.id := NULL; refused := 'it has no id'; RETURN;
    END IF;

    task.kind := coalesce(record ->> kind_name, 'imported');
    IF record ->> kind_name IS NULL THEN
        remarks := remarks || 'no kind: "imported"'::text;
    ELSIF octet_length(task.kind) NOT BETWEEN 1 AND 128 OR task.kind = '*' THEN
        refused := 'its kind is empty, "*", or longer than 128 bytes'; RETURN;
    ELSIF task.kind LIKE 'tandem.%' THEN
        refused := 'kinds that begin with "tandem." are the steps of runs'; RETURN;
    END IF;

    word := record ->> state_name;
    task.state := tandem.state_of(word);
    IF word IS NULL THEN
        task.state := 'pending';
        notes := notes || 'no state: pending'::text;
    ELSIF task.state IS NULL THEN
        refused := format('unknown state "%s"', left(word, 100)); RETURN;
    ELSIF task.state <> word THEN
        remarks := remarks || format('state "%s": %s', word, task.state);
    END IF;

    task.version := 1;
    IF coalesce(record -> 'version', 'null') <> 'null' THEN
        number := CASE WHEN record ->> 'version' ~ '^[0-9]{1,19}([.]0+)?$' THEN (record ->> 'version')::numeric END;
        IF number BETWEEN 1 AND 4611686018427387904 THEN -- 2^62: so many changes again go on from there
            task.version := number;
        ELSE
            notes := notes || format('version %s is no integer from 1 to 2^62: 1', left(record ->> 'version', 30));
        END IF;
    END IF;

    -- severity and priority: a word or a number in either
    word := lower(coalesce(record ->> 'severity', CASE WHEN jsonb_typeof(record -> 'priority') = 'string' THEN record ->> 'priority' END, 'normal'));
    task.severity := CASE WHEN word IN ('low', 'normal', 'high', 'critical') THEN word
                          WHEN word IN ('medium', 'default', 'info', 'moderate') THEN 'normal' WHEN word IN ('minor', 'trivial') THEN 'low'
                          WHEN word IN ('major', 'important', 'warning') THEN 'high' WHEN word IN ('urgent', 'emergency', 'blocker', 'fatal') THEN 'critical' END;
    IF task.severity IS NULL THEN
        task.severity := 'normal';
        notes := notes || format('severity "%s": normal', left(word, 100));
    END IF;
    number := CASE WHEN jsonb_typeof(record -> 'priority') = 'number' THEN (record ->> 'priority')::numeric END;
    task.priority := CASE WHEN number BETWEEN -32768 AND 32767 THEN round(number)
                          ELSE CASE task.severity WHEN 'critical' THEN 30 WHEN 'high' THEN 20 WHEN 'low' THEN 0 ELSE 10 END END;

    -- What has no column is kept in the payload, beside what is there.
    payload := coalesce(record -> payload_name, '{}');
    others := record - ARRAY[id_name, kind_name, state_name, coalesce(payload_name, 'payload'), 'version', 'severity', 'priority', 'tenant', 'owner', 'idem_key', 'attempt',
                             'max_attempts', 'created_at', 'createdAt', 'updated_at', 'updatedAt', 'run_at', 'started_at', 'finished_at', 'start_due', 'finish_due',
                             'worker', 'lease_token', 'lease_until', 'result'];
    IF jsonb_typeof(payload) <> 'object' THEN
        payload := CASE WHEN payload = 'null' THEN '{}' ELSE jsonb_build_object(payload_name, payload) END;
    END IF;
    IF task.id::text <> lower(old_id) AND old_id !~ '^[{]?[0-9A-Fa-f-]{32,36}[}]?$' THEN
        others := jsonb_build_object('state_file_id', coalesce(record -> id_name, to_jsonb(name))) || others;
    END IF;
    IF others <> '{}' THEN
        IF payload ?| ARRAY(SELECT jsonb_object_keys(others)) THEN
            payload := payload || jsonb_build_object('state_file', others);
        ELSE
            payload := payload || others;
        END IF;
    END IF;
    task.payload := payload;
    number := pg_column_size(payload);
    IF number > pg_size_bytes(coalesce(current_setting('tandem.task_payload_limit', true), '1MB')) THEN
        refused := format('its payload has %s bytes: more than tandem.task_payload_limit', number); RETURN;
    END IF;

    task.tenant := coalesce(record ->> 'tenant', nullif(current_setting('tandem.tenant', true), ''), '');
    IF octet_length(task.tenant) > 128 THEN
        refused := 'its tenant is longer than 128 bytes'; RETURN;
    END IF;
    task.idem_key := CASE WHEN record ? 'idem_key' THEN record ->> 'idem_key'
                          WHEN task.id::text <> lower(old_id) AND octet_length(old_id) <= 1024 THEN old_id END;
    IF octet_length(task.idem_key) NOT BETWEEN 1 AND 1024 THEN
        task.idem_key := NULL;
        notes := notes || 'idem_key is empty or longer than 1024 bytes: left out'::text;
    END IF;
    task.owner := coalesce((SELECT r.rolname FROM pg_roles AS r WHERE r.rolname = record ->> 'owner' AND pg_has_role(tandem.acting_role(), r.oid, 'MEMBER')),
                           pg_get_userbyid(tandem.acting_role()));
    task.attempt := CASE WHEN jsonb_typeof(record -> 'attempt') = 'number' AND (record ->> 'attempt')::numeric BETWEEN 0 AND 32767 THEN (record ->> 'attempt')::numeric ELSE 0 END;
    task.max_attempts := CASE WHEN jsonb_typeof(record -> 'max_attempts') = 'number' AND (record ->> 'max_attempts')::numeric BETWEEN 1 AND 32767
                              THEN (record ->> 'max_attempts')::numeric
                              ELSE coalesce((SELECT k.max_attempts FROM tandem.task_kind AS k WHERE k.kind IN (task.kind, '*') ORDER BY k.kind = '*' LIMIT 1), 5) END;
    task.result := nullif(record -> 'result', 'null');
    task.worker := record ->> 'worker';

    task.created_at := tandem.state_time(coalesce(record -> 'created_at', record -> 'createdAt'));
    task.updated_at := coalesce(tandem.state_time(coalesce(record -> 'updated_at', record -> 'updatedAt')), task.created_at);
    IF task.created_at IS NULL THEN
        IF coalesce(record -> 'created_at', record -> 'createdAt', 'null') <> 'null' THEN
            notes := notes || 'created_at is no time: now'::text;
        END IF;
        task.created_at := at;
        task.updated_at := coalesce(task.updated_at, at);
    END IF;
    task.run_at := coalesce(tandem.state_time(record -> 'run_at'), task.created_at);
    task.started_at := coalesce(tandem.state_time(record -> 'started_at'), CASE WHEN task.state IN ('claimed', 'running', 'done', 'failed') THEN task.updated_at END);
    task.finished_at := CASE WHEN task.state IN ('done', 'dead', 'cancelled') THEN coalesce(tandem.state_time(record -> 'finished_at'), task.updated_at) END;
    -- Nobody here holds its lease. It gets one that ends soon: then the task is rescued like any other whose worker is gone.
    IF task.state IN ('claimed', 'running') THEN
        task.worker := coalesce(task.worker, 'state file');
        task.lease_until := at + interval '5 minutes';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.state_task IS 'A record of a state file as a task: fields by their usual names, what has no column is kept in the payload';

CREATE FUNCTION tandem.is_reachable(kind text, from_state text, to_state text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT from_state = to_state OR EXISTS (
        SELECT FROM tandem.transition AS t
         WHERE t.from_state = $2 AND t.to_state = $3
           AND t.kind = CASE WHEN EXISTS (SELECT FROM tandem.transition AS k WHERE k.kind = $1) THEN $1 ELSE '*' END)
$$;
COMMENT ON FUNCTION tandem.is_reachable IS 'Does a legal change lead from one state to the other?';

-- What an import of the file would do, record by record, in the order of the file.
CREATE FUNCTION tandem.state_plan(document bytea)
RETURNS TABLE (action text, task tandem.task, byte_offset bigint, byte_length bigint, reason text, there boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH found AS MATERIALIZED (
        SELECT r.*, t.task, t.remarks, t.notes, t.refused
          FROM tandem.state_records(document) AS r LEFT JOIN LATERAL tandem.state_task(r.record, r.name) AS t ON r.record IS NOT NULL),
    ranked AS (
        SELECT f.byte_offset, row_number() OVER best AS place, first_value(f.byte_offset) OVER best AS best_offset, first_value((f.task).version) OVER best AS best_version,
               first_value(f.record) OVER best = f.record AS same
          FROM found AS f WHERE f.record IS NOT NULL AND f.refused IS NULL
        WINDOW best AS (PARTITION BY (f.task).id ORDER BY (f.task).version DESC, f.verdict = 'saved' DESC, f.byte_offset DESC)),
    keyed AS ( -- of several tasks with one idempotency key the first
        SELECT f.byte_offset, row_number() OVER (PARTITION BY (f.task).tenant, (f.task).kind, (f.task).idem_key ORDER BY f.byte_offset) AS place
          FROM found AS f JOIN ranked AS r USING (byte_offset) WHERE r.place = 1 AND (f.task).idem_key IS NOT NULL),
    judged AS (
        SELECT f.*,
               CASE WHEN f.verdict IN ('lost', 'skipped') THEN f.reason
                    WHEN f.refused IS NOT NULL THEN f.refused
                    WHEN r.place > 1 THEN format('%s at byte %s', CASE WHEN r.best_version > (f.task).version THEN 'version ' || r.best_version || ' of it stands'
                                                                       WHEN r.same THEN 'the same record stands again' ELSE 'this version of it stands again, with other contents,' END, r.best_offset)
                    WHEN k.place > 1 THEN 'an earlier record of the file has its idempotency key'
                    WHEN nullif(current_setting('tandem.tenant', true), '') <> (f.task).tenant THEN 'it belongs to another tenant than tandem.tenant'
                    WHEN EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = (f.task).tenant AND NOT pg_has_role(tandem.acting_role(), o.oid, 'MEMBER')) -- as task_create() has it
                         THEN format('its tenant "%s" is a role that "%s" is no member of', (f.task).tenant, pg_get_userbyid(tandem.acting_role()))
                    WHEN x.version > (f.task).version THEN format('the task is there with version %s', x.version)
                    WHEN x.version = (f.task).version THEN 'the task is there with this version'
                    WHEN x.kind <> (f.task).kind OR x.tenant <> (f.task).tenant THEN 'the task is there with another kind or tenant'
                    WHEN x.id IS NOT NULL AND NOT tandem.is_reachable(x.kind, x.state, (f.task).state) THEN format('the task is %s: %s cannot follow', x.state, (f.task).state)
                    WHEN x.id IS NULL AND EXISTS (SELECT FROM tandem.task AS y WHERE y.tenant = (f.task).tenant AND y.kind = (f.task).kind AND y.idem_key = (f.task).idem_key)
                         THEN 'another task has its idempotency key' END AS problem,
               x.id IS NOT NULL AS there
          FROM found AS f LEFT JOIN ranked AS r USING (byte_offset) LEFT JOIN keyed AS k USING (byte_offset) LEFT JOIN tandem.task AS x ON x.id = (f.task).id)
    SELECT CASE WHEN j.verdict IN ('lost', 'skipped') THEN j.verdict WHEN j.refused IS NOT NULL THEN 'lost' WHEN j.problem IS NOT NULL THEN 'skipped'
                WHEN j.verdict = 'repaired' OR j.notes <> '{}' THEN 'repaired' ELSE 'saved' END,
           CASE WHEN j.verdict = 'lost' AND j.id IS NOT NULL THEN jsonb_populate_record(NULL::tandem.task, jsonb_build_object('id', tandem.state_id(j.id))) ELSE j.task END,
           j.byte_offset, j.byte_length,
           coalesce(j.problem, nullif(array_to_string(j.reason || j.notes || j.remarks || CASE WHEN (j.task).state IN ('claimed', 'running') THEN 'nobody holds it: to be claimed again in 5 minutes' END
                                                      || CASE WHEN j.there THEN 'replaces an earlier version' END, '; '), '')),
           j.there
      FROM judged AS j ORDER BY j.byte_offset
$$;
COMMENT ON FUNCTION tandem.state_plan IS 'What an import of a state file would do, record by record';

-- Carries a plan out. `migration`: the backup that it belongs to.
CREATE FUNCTION tandem.import_state(document bytea, dry_run boolean, backup bigint)
RETURNS TABLE (action text, task_id uuid, byte_offset bigint, byte_length bigint, reason text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    digest text;
BEGIN
    IF import_state.document IS NULL OR import_state.dry_run IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', CASE WHEN import_state.document IS NULL THEN 'document' ELSE 'dry_run' END USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT * FROM tandem.import_state_json(pg_read_binary_file(''/path/to/state.json''))';
    END IF;
    digest := encode(sha256(import_state.document), 'hex');
    IF NOT import_state.dry_run THEN
        PERFORM tandem.append_event('import_state_json', NULL, jsonb_strip_nulls(jsonb_build_object('sha256', digest, 'bytes', octet_length(import_state.document), 'backup', import_state.backup)));
    END IF;
    RETURN QUERY
    WITH plan AS MATERIALIZED (SELECT p.* FROM tandem.state_plan(import_state.document) AS p),
    carried_out AS MATERIALIZED (
        SELECT p.*, CASE WHEN NOT import_state.dry_run AND p.action IN ('saved', 'repaired')
                         THEN tandem.import_task(p.task, jsonb_strip_nulls(jsonb_build_object('sha256', digest, 'byte_offset', p.byte_offset, 'byte_length', p.byte_length,
                                                                                             'reason', p.reason, 'backup', import_state.backup)),
                                                 CASE WHEN (p.task).state IN ('claimed', 'running') THEN nextval('tandem.task_lease_token') END) END AS refused
          FROM plan AS p),
    noted AS (
        INSERT INTO tandem.state_migrated AS m (backup_id, task_id, version, state, payload, created)
        SELECT import_state.backup, (c.task).id, (c.task).version, (c.task).state, encode(sha256(convert_to((c.task).payload::text, 'UTF8')), 'hex'), NOT c.there
          FROM carried_out AS c WHERE import_state.backup IS NOT NULL AND NOT import_state.dry_run AND c.action IN ('saved', 'repaired') AND c.refused IS NULL
        ON CONFLICT ON CONSTRAINT state_migrated_pkey DO UPDATE SET version = excluded.version, state = excluded.state, payload = excluded.payload, created = m.created AND excluded.created)
    SELECT CASE WHEN c.refused IS NULL THEN c.action ELSE 'skipped' END, (c.task).id, c.byte_offset, c.byte_length, coalesce(c.refused, c.reason) FROM carried_out AS c;
END
$$;
COMMENT ON FUNCTION tandem.import_state IS 'import_state_json() with the backup that it belongs to';

-- SECURITY DEFINER: it writes the task table. Executable by operators.
CREATE FUNCTION tandem.import_state_json(document bytea, dry_run boolean DEFAULT true)
RETURNS TABLE (action text, task_id uuid, byte_offset bigint, byte_length bigint, reason text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM tandem.import_state(document, dry_run, NULL) $$;
COMMENT ON FUNCTION tandem.import_state_json IS
    'Tasks out of a JSON state file as it is found, damaged or not: what is saved, repaired, lost and skipped, with its place; dry_run (default) only tells';
