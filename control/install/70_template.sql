-- template: plans of runs, as rows. create_run() takes steps, holds, options, gates, guards, success metrics and a checklist from one.
--
-- A template is a plan and no machinery: whatever it sets can be set by hand, and changed afterwards. All times of a plan go by the option
-- time_scale, so that each of them can be rehearsed in an hour or in a minute.

CREATE TABLE tandem.run_template (
    template        text PRIMARY KEY CHECK (octet_length(template) BETWEEN 1 AND 63),
    description     text NOT NULL,
    steps           integer[] NOT NULL,
    hold            interval NOT NULL CHECK (hold >= interval '0'),
    holds           interval[] NOT NULL DEFAULT '{}',
    options         jsonb NOT NULL DEFAULT '{}',
    gates           jsonb NOT NULL DEFAULT '[]',
    guards          jsonb NOT NULL DEFAULT '[]',
    success_metrics jsonb NOT NULL DEFAULT '[]',
    checklist       text[] NOT NULL DEFAULT '{}',
    required        text[] NOT NULL DEFAULT '{}' CHECK (required <@ checklist),
    shipped         boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE tandem.run_template IS 'Plans of runs; a superuser may add rows, which pg_dump carries. View run_templates shows them';
COMMENT ON COLUMN tandem.run_template.hold IS 'The least time in shadow, and at each step where holds names no other';
COMMENT ON COLUMN tandem.run_template.holds IS 'The least time at each step in turn; empty: hold at all of them';
COMMENT ON COLUMN tandem.run_template.options IS 'Options that set_option() is called with';
COMMENT ON COLUMN tandem.run_template.gates IS 'Arguments of add_gate(), by their names; before_weight is rounded up to the next step';
COMMENT ON COLUMN tandem.run_template.guards IS 'Arguments of add_guard_template(), by their names';
COMMENT ON COLUMN tandem.run_template.success_metrics IS 'Arguments of add_success_metric(), by their names';
COMMENT ON COLUMN tandem.run_template.checklist IS 'Items of the checklist, in order, without owner and time';
COMMENT ON COLUMN tandem.run_template.required IS 'Those of them without which complete() refuses. None of what is shipped: which of its items matter, a team says';

INSERT INTO tandem.run_template (template, description, steps, hold, holds, options, gates, guards, success_metrics, checklist, shipped)
SELECT v.template, v.description, v.steps, v.hold, v.holds, v.options::jsonb, v.gates::jsonb,
       -- a percentile of a few seconds jumps
       '[{"template": "success_rate"}, {"template": "error_rate"}, {"template": "p95_degradation", "hold": "5 minutes"}, {"template": "new_is_worse"}, {"template": "health_score"},
         {"template": "batch_failures"}, {"template": "sla_breaches"}, {"template": "check_variance"}]'::jsonb,
       '[{"name": "no differences", "target": "= 0", "metric": "differences", "aggregate": "max", "description": "Rows that differed at a validation and that nobody accepted"},
         {"name": "success rate", "target": ">= 99.9", "metric": "success_rate", "aggregate": "avg", "description": "Observations that were no errors, in %"},
         {"name": "latency", "target": "<= 1.2", "metric": "p95_ratio", "aggregate": "avg", "description": "95th percentile of the new side, in times that of legacy"},
         {"name": "health", "target": ">= 90", "metric": "health_score", "aggregate": "avg", "description": "Health of the run, 0 to 100"}]'::jsonb,
       v.checklist, true
  FROM (VALUES
       ('24-hour', 'A day: four hours in shadow, at each step, and with the way back open after the last; what changed is compared every 5 seconds',
        '{5,25,50,75,100}'::integer[], interval '4 hours', '{}'::interval[], '{"validate_every": "5 seconds", "retention": "4 hours"}', '[]',
        '{Preflight is clean,On-call is named and has read the way back,Start,Both sides in step,At 100 %,Retrospective is written}'::text[]),
       ('phased', 'Three quarters of an hour from 5 to 100 %: 5, 10, 15, 10 and 5 minutes at the steps; what changed is compared every 30 seconds',
        '{5,25,50,75,100}', '5 minutes', '{5 minutes,10 minutes,15 minutes,10 minutes,5 minutes}', '{"validate_every": "30 seconds"}', '[]',
        '{Preflight is clean,On-call is named and has read the way back,Start,Both sides in step,At 100 %,Retrospective is written}'),
       ('playbook', 'Three months: one in shadow, one as a pilot with a tenth of the keys, one with all of them and the way back open; a go or no go before each',
        '{10,100}', '30 days', '{30 days,30 days}', '{"validate_every": "1 minute", "retention": "30 days", "consecutive": "3"}',
        '[{"gate": "pilot", "before_stage": "live"}, {"gate": "full", "before_stage": "live", "before_weight": 100}, {"gate": "closing", "before_stage": "complete"}]',
        '{Preflight is clean,Backup is restored elsewhere and compared,Way back is rehearsed,On-call is named and has read the way back,Users are told,Start,Shadow month is over,Go or no go: pilot,Pilot month is over,Go or no go: all keys,Full month is over,Go or no go: closing,Legacy is archived,Retrospective is written}'),
       ('rehearsal', 'The day of 24-hour in a minute, with the same machinery; set time_scale to 24 for an hour, or on a run of another template',
        '{5,25,50,75,100}', '4 hours', '{}', '{"validate_every": "5 seconds", "retention": "4 hours", "time_scale": "1440"}', '[]',
        '{Preflight is clean,Start,Both sides in step,At 100 %,Retrospective is written}')
       ) AS v (template, description, steps, hold, holds, options, gates, checklist);

-- What time_scale divides; the holds are divided where they are read (run_hold).
UPDATE tandem.option_default SET scaled = true WHERE name IN ('reconcile_every', 'retention');

CREATE VIEW tandem.run_templates AS
SELECT t.template, t.description, t.steps, t.hold, t.holds, t.options, t.gates, t.guards, t.success_metrics, t.checklist, t.required,
       (t.hold + coalesce((SELECT sum(h) FROM unnest(t.holds[1 : cardinality(t.steps) - 1]) AS h), t.hold * (cardinality(t.steps) - 1)) + coalesce((t.options ->> 'retention')::interval, '0')
       ) / coalesce((t.options ->> 'time_scale')::double precision, 1) AS takes, t.shipped
  FROM tandem.run_template AS t;
COMMENT ON VIEW tandem.run_templates IS 'Plans that create_run(..., template => ...) takes; takes is the least time from the first clean comparison to complete()';

-- Everything is set as by hand, with the rights of who makes the run. Where steps were given, what belongs to other steps is left out.
CREATE FUNCTION tandem.apply_template(run tandem.run, template tandem.run_template) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o record;
    j jsonb;
    g text;
BEGIN
    FOR o IN SELECT e.key, e.value FROM jsonb_each_text(template.options) AS e ORDER BY e.key LOOP
        PERFORM tandem.set_option(run.name, o.key, o.value);
    END LOOP;
    IF template.holds <> '{}' AND run.steps = template.steps AND run.hold = template.hold THEN
        PERFORM tandem.set_option(run.name, 'holds', template.holds::text);
    END IF;
    FOR j IN SELECT e.value FROM jsonb_array_elements(template.gates) WITH ORDINALITY AS e ORDER BY e.ordinality LOOP
        PERFORM tandem.add_gate(run.name, j ->> 'gate', j ->> 'before_stage', (SELECT min(s) FROM unnest(run.steps) AS s WHERE s >= (j ->> 'before_weight')::integer),
                                coalesce((j ->> 'approvals')::integer, 1), coalesce((j ->> 'valid_for')::interval, '24 hours'));
    END LOOP;
    FOR j IN SELECT e.value FROM jsonb_array_elements(template.guards) WITH ORDINALITY AS e ORDER BY e.ordinality LOOP
        PERFORM tandem.add_guard_template(run.name, j ->> 'template', (j ->> 'threshold')::numeric, (j ->> 'hold')::interval, (j ->> 'min_samples')::integer, (j ->> 'severity')::integer, j ->> 'domain', j ->> 'name');
    END LOOP;
    FOR j IN SELECT e.value FROM jsonb_array_elements(template.success_metrics) WITH ORDINALITY AS e ORDER BY e.ordinality LOOP
        PERFORM tandem.add_success_metric(run.name, j ->> 'name', j ->> 'target', j ->> 'metric', j ->> 'query', coalesce(j ->> 'aggregate', 'last'), j ->> 'description');
    END LOOP;
    FOREACH g IN ARRAY template.checklist LOOP
        PERFORM tandem.add_checklist_item(run.name, g, required => g = ANY (template.required));
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.apply_template IS 'Sets options, gates, guards, success metrics and the checklist of a run as its template says';
