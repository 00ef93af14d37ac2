-- sla: by when tasks are to be started and finished, what became late, and the views that tell.
--
-- A policy gives a task its deadlines when the task is made (src/pg/deadline_policy.cpp); they stand in tandem.task, and what of them is
-- still open in tandem.task_deadline. The coordinator sleeps to the next (src/pg/worker_deadline.cpp), and tick() looks for them
-- (deadline_round). Both settle them by the same code (src/pg/deadline_settle.cpp).

CREATE TABLE tandem.sla_calendar (
    name     text PRIMARY KEY,
    timezone text NOT NULL,
    hours    jsonb NOT NULL,
    holidays date[] NOT NULL DEFAULT '{}',
    open     integer[] NOT NULL -- hours again, in minutes since Monday 0:00: from, to, from, to, ...; what C++ reads
);
COMMENT ON TABLE tandem.sla_calendar IS 'Service hours, made by sla_calendar()';

-- What the extension ships is not dumped, and a row of the user's overrides it: so a dump brings back what was changed, and never
-- meets the row that CREATE EXTENSION made.
CREATE TABLE tandem.sla_policy (
    kind          text NOT NULL,
    severity      text NOT NULL,
    start_within  interval,
    finish_within interval,
    warn_ratio    numeric NOT NULL,
    escalate_to   text,
    calendar      text REFERENCES tandem.sla_calendar,
    shipped       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (kind, severity, shipped)
);
COMMENT ON TABLE tandem.sla_policy IS 'SLA policies; neither start_within nor finish_within: none for these tasks, also where a more general policy has one';
INSERT INTO tandem.sla_policy (kind, severity, finish_within, warn_ratio, shipped) VALUES ('*', 'critical', '5 minutes', 0.8, true);

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.sla_policy FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.sla_calendar FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();

-- Kept longer than the task itself, should that be deleted: so it repeats the task's kind, severity and tenant.
CREATE TABLE tandem.sla_breach (
    task_id      uuid NOT NULL,
    which        text COLLATE "C" NOT NULL CHECK (which IN ('start', 'finish')),
    due_at       timestamptz NOT NULL,
    detected_at  timestamptz NOT NULL CHECK (detected_at >= due_at),
    kind         text NOT NULL,
    severity     text NOT NULL,
    tenant       text NOT NULL,
    escalated_to text,
    UNIQUE (task_id, which, due_at)
);
CREATE INDEX sla_breach_detected_at ON tandem.sla_breach (detected_at);
COMMENT ON TABLE tandem.sla_breach IS 'One row for each deadline that was missed; view sla_breaches shows them';

CREATE VIEW tandem.sla_policies AS
SELECT DISTINCT ON (p.kind, p.severity) p.kind, p.severity, p.start_within, p.finish_within, p.warn_ratio, p.escalate_to, p.calendar, p.shipped
  FROM tandem.sla_policy AS p ORDER BY p.kind, p.severity, p.shipped;
COMMENT ON VIEW tandem.sla_policies IS 'The SLA policies that are in force; shipped: came with the extension';

CREATE FUNCTION tandem.due_time(start timestamptz, within interval, calendar text DEFAULT NULL) RETURNS timestamptz
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tandem_due_time';
COMMENT ON FUNCTION tandem.due_time IS 'When a clock that is started at a moment, and runs in the hours of a calendar or all the time, has run for an interval';

CREATE FUNCTION tandem.deadline_round(most integer DEFAULT 1000) RETURNS text
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_deadline_round';
COMMENT ON FUNCTION tandem.deadline_round IS 'Settles deadlines that have passed: breaches, alerts, escalations; says what it did, NULL for nothing. The worker does it by itself';

-- Weekly hours as minutes since Monday 0:00. {"mon": ["08:00-12:00", "13:00-17:00"], "sat": "10:00-24:00"}
CREATE FUNCTION tandem.open_minutes(hours jsonb) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    days CONSTANT text[] := '{mon,tue,wed,thu,fri,sat,sun}';
    minutes int4range[] := '{}';
    day record;
    span text;
    part text[];
    m integer[];
BEGIN
    IF jsonb_typeof(hours) <> 'object' THEN
        RAISE EXCEPTION 'service hours are an object of days, not a JSON %', jsonb_typeof(hours) USING ERRCODE = 'invalid_parameter_value',
              HINT = 'For example {"mon": ["08:00-12:00", "13:00-17:00"], "tue": "08:00-17:00"}.';
    END IF;
    FOR day IN SELECT e.key, e.value, array_position(days, e.key) - 1 AS number FROM jsonb_each(hours) AS e LOOP
        IF day.number IS NULL THEN
            RAISE EXCEPTION 'there is no day "%"', day.key USING ERRCODE = 'invalid_parameter_value', HINT = 'Days are mon, tue, wed, thu, fri, sat, sun.';
        END IF;
        FOR span IN SELECT jsonb_array_elements(CASE jsonb_typeof(day.value) WHEN 'array' THEN day.value ELSE jsonb_build_array(day.value) END) #>> '{}' LOOP
            part := regexp_match(span, '^([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])$');
            m := ARRAY[part[1]::integer * 60 + part[2]::integer, part[3]::integer * 60 + part[4]::integer];
            IF part IS NULL OR m[1] >= m[2] OR m[2] > 24 * 60 THEN
                RAISE EXCEPTION 'service hours of % can''t be read: %', day.key, coalesce(quote_literal(span), 'null') USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = 'They are "HH:MM-HH:MM" of one day, the end later than the beginning and 24:00 at most.',
                      HINT = 'Hours that cross midnight are two: {"fri": "22:00-24:00", "sat": "00:00-06:00"}.';
            END IF;
            IF int4range(day.number * 1440 + m[1], day.number * 1440 + m[2]) && ANY (minutes) THEN
                RAISE EXCEPTION 'service hours of % overlap at %', day.key, span USING ERRCODE = 'invalid_parameter_value', HINT = 'Name each minute once.';
            END IF;
            minutes := minutes || int4range(day.number * 1440 + m[1], day.number * 1440 + m[2]);
        END LOOP;
    END LOOP;
    IF minutes = '{}' THEN
        RAISE EXCEPTION 'service hours that never open would never let anything fall due' USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Give at least one day its hours, for example {"mon": "08:00-17:00"}.';
    END IF;
    RETURN (SELECT array_agg(bound ORDER BY r, bound) FROM unnest(minutes) AS r CROSS JOIN LATERAL unnest(ARRAY[lower(r), upper(r)]) AS bound);
END
$$;
COMMENT ON FUNCTION tandem.open_minutes IS 'Checks the weekly hours of a calendar; from, to, ... in minutes since Monday 0:00';

-- SECURITY DEFINER, as the functions below: they write the extension's tables. Operators may execute them.
CREATE FUNCTION tandem.sla_calendar(name text, timezone text, hours jsonb, holidays date[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    minutes integer[];
BEGIN
    IF name IS NULL OR timezone IS NULL OR hours IS NULL OR holidays IS NULL OR array_position(holidays, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a calendar needs a name, a time zone and hours, and has no unknown holiday' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT tandem.sla_calendar(''office'', ''Europe/Berlin'', ''{"mon": "08:00-17:00"}'', ''{2026-12-25}'')';
    END IF;
    IF octet_length(name) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a calendar has 1 to 63 bytes' USING ERRCODE = 'invalid_name',
              DETAIL = format('This one has %s.', octet_length(name)), HINT = 'Choose a short name, such as ''office''.';
    END IF;
    -- By full name: an abbreviation such as CET has no summer, or another one elsewhere.
    IF NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = sla_calendar.timezone) THEN
        RAISE EXCEPTION 'there is no time zone "%"', timezone USING ERRCODE = 'invalid_parameter_value',
              HINT = 'SELECT name FROM pg_timezone_names lists them: Europe/Berlin, UTC, ...';
    END IF;
    IF '-infinity' = ANY (holidays) OR 'infinity' = ANY (holidays) THEN
        RAISE EXCEPTION 'a holiday is a day' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'One of them is infinity.', HINT = 'Name each day: ''{2026-12-25,2026-12-26}''.';
    END IF;
    minutes := tandem.open_minutes(hours);
    INSERT INTO tandem.sla_calendar AS c (name, timezone, hours, holidays, open) VALUES (name, timezone, hours, holidays, minutes)
    ON CONFLICT ON CONSTRAINT sla_calendar_pkey DO UPDATE SET timezone = EXCLUDED.timezone, hours = EXCLUDED.hours, holidays = EXCLUDED.holidays, open = EXCLUDED.open;
    PERFORM tandem.check_due(p.start_within, p.calendar), tandem.check_due(p.finish_within, p.calendar) FROM tandem.sla_policy AS p WHERE p.calendar = sla_calendar.name;
    PERFORM tandem.append_event('sla_calendar', NULL, jsonb_build_object('name', name, 'timezone', timezone, 'hours', hours, 'holidays', holidays));
END
$$;
COMMENT ON FUNCTION tandem.sla_calendar IS 'Makes or changes service hours: a time zone, weekly hours in it, and holidays; tasks made from then on follow them';

CREATE FUNCTION tandem.drop_sla_calendar(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    used text;
BEGIN
    SELECT string_agg(format('(%s, %s)', p.kind, p.severity), ', ' ORDER BY p.kind, p.severity) INTO used FROM tandem.sla_policy AS p WHERE p.calendar = drop_sla_calendar.name;
    IF used IS NOT NULL THEN
        RAISE EXCEPTION 'calendar "%" is in use', name USING ERRCODE = 'dependent_objects_still_exist',
              DETAIL = format('These policies name it: %s.', used), HINT = 'Change or drop them first.';
    END IF;
    DELETE FROM tandem.sla_calendar AS c WHERE c.name = drop_sla_calendar.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'calendar "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM tandem.sla_calendar shows what there is.';
    END IF;
    PERFORM tandem.append_event('drop_sla_calendar', NULL, jsonb_build_object('name', name));
END
$$;
COMMENT ON FUNCTION tandem.drop_sla_calendar IS 'Drops service hours that no policy uses';

CREATE FUNCTION tandem.check_due(within interval, calendar text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF within IS NULL THEN
        RETURN;
    END IF;
    -- months first: what an interval with months is long depends on where it begins
    IF NOT isfinite(within) OR extract(year FROM within) <> 0 OR extract(month FROM within) <> 0 THEN
        RAISE EXCEPTION 'a deadline is a time of fixed length, not %', within USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Write days for months and years: ''30 days''.';
    END IF;
    IF within <= interval '0' OR within > interval '36500 days' THEN
        RAISE EXCEPTION 'a deadline is later than its task, by 36500 days at most, not by %', within USING ERRCODE = 'invalid_parameter_value',
              HINT = 'NULL sets none.';
    END IF;
    IF calendar IS NOT NULL AND extract(day FROM within) <> 0 THEN
        RAISE EXCEPTION 'a time in service hours is given in hours, not as %', within USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'A day would be 24 hours in which the clock runs, hardly what is meant.', HINT = 'Write hours: ''16 hours''.';
    END IF;
    IF calendar IS NOT NULL AND tandem.due_time(clock_timestamp(), within, calendar) > clock_timestamp() + interval '36500 days' THEN
        RAISE EXCEPTION 'calendar "%" opens too little for %', calendar, within USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'A task made now would fall due in more than 100 years.', HINT = 'Give it more hours, or less time to wait for.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_due IS 'Refuses (22023) a time within which nothing can fall due';

CREATE FUNCTION tandem.sla_policy(kind text, severity text, start_within interval, finish_within interval, warn_ratio numeric DEFAULT 0.8,
                                  escalate_to text DEFAULT NULL, calendar text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind IS NULL OR severity IS NULL OR warn_ratio IS NULL THEN
        RAISE EXCEPTION 'an SLA policy needs a kind, a severity and a warn_ratio' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT tandem.sla_policy(''*'', ''high'', NULL, ''1 hour''); ''*'' stands for every other.';
    END IF;
    IF octet_length(kind) NOT BETWEEN 1 AND 128 THEN
        RAISE EXCEPTION 'the kind of a task has 1 to 128 bytes' USING ERRCODE = 'invalid_name',
              DETAIL = format('This one has %s.', octet_length(kind)), HINT = 'Name the kind that task_create() is given, such as ''refund'', or ''*'' for every other.';
    END IF;
    IF severity NOT IN ('low', 'normal', 'high', 'critical', '*') THEN
        RAISE EXCEPTION 'there is no severity "%"', severity USING ERRCODE = 'invalid_parameter_value', HINT = 'Severities are low, normal, high, critical; ''*'' stands for every other.';
    END IF;
    IF NOT (warn_ratio > 0 AND warn_ratio <= 1) THEN -- NaN, too
        RAISE EXCEPTION 'warn_ratio is a part of the time, above 0 and up to 1, not %', warn_ratio USING ERRCODE = 'invalid_parameter_value',
              HINT = '0.8 warns when four fifths of the time are over.';
    END IF;
    IF escalate_to IS NOT NULL AND escalate_to NOT IN ('pending', 'claimed', 'running', 'done', 'failed', 'dead', 'escalated', 'cancelled') THEN
        RAISE EXCEPTION 'there is no state "%"', escalate_to USING ERRCODE = 'invalid_parameter_value',
              HINT = 'escalate_to is usually ''escalated''; NULL only records the breach.';
    END IF;
    IF escalate_to IN ('claimed', 'running', 'done') THEN
        RAISE EXCEPTION 'a breach can''t make a task %', escalate_to USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'Only whoever works on a task can say so.', HINT = 'escalate_to is usually ''escalated''; NULL only records the breach.';
    END IF;
    IF calendar IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.sla_calendar AS c WHERE c.name = sla_policy.calendar) THEN
        RAISE EXCEPTION 'calendar "%" does not exist', calendar USING ERRCODE = 'undefined_object', HINT = 'tandem.sla_calendar() makes one.';
    END IF;
    IF start_within > finish_within THEN
        RAISE EXCEPTION 'a task can''t have longer to start (%) than to finish (%)', start_within, finish_within USING ERRCODE = 'invalid_parameter_value',
              HINT = 'The order is sla_policy(kind, severity, start_within, finish_within); NULL sets no deadline.';
    END IF;
    PERFORM tandem.check_due(start_within, calendar), tandem.check_due(finish_within, calendar);
    INSERT INTO tandem.sla_policy AS p VALUES (kind, severity, start_within, finish_within, warn_ratio, escalate_to, calendar)
    ON CONFLICT ON CONSTRAINT sla_policy_pkey DO UPDATE SET start_within = EXCLUDED.start_within, finish_within = EXCLUDED.finish_within,
       warn_ratio = EXCLUDED.warn_ratio, escalate_to = EXCLUDED.escalate_to, calendar = EXCLUDED.calendar;
    PERFORM tandem.append_event('sla_policy', NULL, jsonb_build_object('kind', kind, 'severity', severity, 'start_within', start_within,
            'finish_within', finish_within, 'warn_ratio', warn_ratio, 'escalate_to', escalate_to, 'calendar', calendar));
END
$$;
COMMENT ON FUNCTION tandem.sla_policy IS 'Makes or changes the SLA policy of a kind and a severity (* for every other); tasks made from then on have its deadlines';

CREATE FUNCTION tandem.drop_sla_policy(kind text, severity text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM tandem.sla_policy AS p WHERE p.kind = drop_sla_policy.kind AND p.severity = drop_sla_policy.severity AND NOT p.shipped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no SLA policy of yours for kind "%", severity "%"', kind, severity USING ERRCODE = 'undefined_object',
              DETAIL = 'What came with the extension comes back when yours is dropped, and can only be overridden.',
              HINT = format('SELECT * FROM tandem.sla_policies shows what there is; tandem.sla_policy(%L, %L, NULL, NULL) sets no deadlines.', kind, severity);
    END IF;
    PERFORM tandem.append_event('drop_sla_policy', NULL, jsonb_build_object('kind', kind, 'severity', severity));
END
$$;
COMMENT ON FUNCTION tandem.drop_sla_policy IS 'Drops an SLA policy; tasks made from then on follow the next more general one';

-- Judged by times, not by what somebody has recorded: right also while no worker runs. The clock is read once for all rows.
CREATE VIEW tandem.emergency_response_metrics WITH (security_barrier) AS
SELECT t.id AS task_id, t.kind, t.severity, t.tenant, t.state, t.priority, t.attempt, t.created_at, t.started_at, t.finished_at, t.start_due, t.finish_due,
       t.started_at - t.created_at AS response_time,
       round(extract(epoch FROM t.started_at - t.created_at) * 1000, 3) AS response_ms,
       t.finished_at - t.created_at AS resolution_time,
       round(extract(epoch FROM t.finished_at - t.created_at) * 1000, 3) AS resolution_ms,
       CASE WHEN coalesce(t.started_at, t.finished_at, now.at) > t.start_due OR coalesce(t.finished_at, now.at) > t.finish_due THEN 'SLA_BREACHED'
            WHEN t.finished_at IS NOT NULL OR (t.started_at IS NOT NULL AND t.finish_due IS NULL) THEN 'SLA_MET'
            -- a warn time that is gone was warned of
            WHEN (t.start_due IS NOT NULL AND t.started_at IS NULL AND coalesce(d.start_warn <= now.at, d.task_id IS NOT NULL))
              OR (t.finish_due IS NOT NULL AND coalesce(d.finish_warn <= now.at, d.task_id IS NOT NULL)) THEN 'SLA_AT_RISK'
            ELSE 'SLA_PENDING' END AS sla_status
  FROM tandem.task AS t LEFT JOIN tandem.task_deadline AS d ON d.task_id = t.id CROSS JOIN (SELECT clock_timestamp() AS at OFFSET 0) AS now
 WHERE (t.start_due IS NOT NULL OR t.finish_due IS NOT NULL) AND tandem.sees_tenant(t.tenant);
COMMENT ON VIEW tandem.emergency_response_metrics IS
    'Tasks that have a deadline: response and resolution times, and sla_status SLA_MET, SLA_PENDING, SLA_AT_RISK or SLA_BREACHED';

CREATE VIEW tandem.sla_breaches WITH (security_barrier) AS
SELECT b.task_id, b.kind, b.severity, b.tenant, b.which COLLATE "default" AS which, b.due_at, b.detected_at, b.detected_at - b.due_at AS delay, b.escalated_to,
       t.state, e.ended_at AS landed_at, e.ended_at - b.due_at AS late_by, t.result
  FROM tandem.sla_breach AS b LEFT JOIN tandem.task AS t ON t.id = b.task_id
 CROSS JOIN LATERAL (SELECT CASE b.which WHEN 'start' THEN t.started_at ELSE t.finished_at END AS ended_at) AS e
 WHERE tandem.sees_tenant(b.tenant);
COMMENT ON VIEW tandem.sla_breaches IS
    'Missed deadlines: due_at, detected_at, and landed_at where the task was started or finished after all; one row each';
