-- audit: the append-only record of what happened to runs and tasks, and of what people did. Writers only insert; the worker seals what is
-- decided into a hash chain (audit_seal).
--
-- One partition a month, made when the first event of the month is written, never by CREATE EXTENSION: a restore brings its own.

CREATE SEQUENCE tandem.event_seq;

CREATE TABLE tandem.event (
    seq      bigint NOT NULL DEFAULT nextval('tandem.event_seq'),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    lsn      pg_lsn DEFAULT pg_current_wal_insert_lsn(),
    kind     text NOT NULL,
    actor    text NOT NULL DEFAULT session_user,
    role     text NOT NULL DEFAULT pg_get_userbyid(tandem.acting_role()),
    client   text DEFAULT current_setting('application_name'),
    reason   text,
    run      text,
    stage    text,
    phase    text,
    weight   integer,
    epoch    bigint,
    task_id  uuid,
    state    text,
    version  bigint,
    evidence jsonb
) PARTITION BY RANGE (at);
