-- report: guards, and what they did.

CREATE FUNCTION tandem.report_guards(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH guard AS MATERIALIZED (
        SELECT g.*, count(*) OVER () AS total FROM tandem.guards AS g WHERE g.run = run.name
         ORDER BY array_position('{fired,acknowledged,pending,inconclusive,armed,off}', g.status), g.severity, g.guard LIMIT 40
    ), firing AS MATERIALIZED (
        SELECT f.*, count(*) OVER () AS total FROM tandem.guard_firings AS f WHERE f.run = run.name ORDER BY f.firing DESC LIMIT 20
    )
    SELECT tandem.report_section('guards', 'Guards', CASE WHEN NOT EXISTS (SELECT FROM guard) THEN tandem.report_empty('Nothing takes this run back by itself: tandem.add_guard() and tandem.add_guard_template() add a guard.') ELSE
        tandem.report_table(format('Guards: %s of %s', (SELECT count(*) FROM guard), (SELECT max(g.total) FROM guard AS g)), '{guard,status,condition,#value,held,then,looked at,why}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="w">{}</td><td class="n">{}</td><td class="k">{}</td><td class="k">{}</td><td>{}</td><td class="w">{}</td></tr>',
                         g.guard, tandem.report_badge(CASE g.status WHEN 'fired' THEN 'bad' WHEN 'armed' THEN 'good' ELSE tandem.report_tone(g.status) END, g.status), tandem.report_clip(g.condition, 240), tandem.report_figure(g.value),
                         tandem.html('{}{}', CASE WHEN g.hold > interval '0' THEN tandem.report_span(g.hold) END, CASE WHEN g.min_samples > 0 THEN tandem.html('<small>{} samples</small>', tandem.report_number(g.min_samples)) END),
                         CASE g.severity WHEN 1 THEN 'all goes back' WHEN 2 THEN coalesce('domain ' || g.domain || ' goes back', 'the domain that differs goes back') ELSE 'an alert' END,
                         tandem.report_time(g.looked_at, 'HH24:MI:SS'), tandem.report_clip(CASE WHEN g.status IN ('fired', 'acknowledged') THEN g.fired_because ELSE g.reason END, 240)) FROM guard AS g)) END,
        CASE WHEN EXISTS (SELECT FROM firing) THEN
        tandem.report_table(format('When guards fired: %s of %s', (SELECT count(*) FROM firing), (SELECT max(f.total) FROM firing AS f)), '{fired,guard,why,true since,#held,#samples,what was done,armed again}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="w">{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="w">{}</td><td class="w">{}</td></tr>',
                         tandem.report_time(f.fired_at), f.guard, tandem.report_clip(f.reason, 300), tandem.report_time(f.first_true_at, 'HH24:MI:SS'), tandem.report_span(f.held), tandem.report_number(f.samples),
                         concat_ws(' ', f.action, f.domain, 'no. ' || f.rollback), CASE WHEN f.armed_at IS NOT NULL THEN tandem.html('{}, {}', tandem.report_time(f.armed_at, 'HH24:MI:SS'), f.armed_by) END)
                    FROM firing AS f)) END)
$$;
COMMENT ON FUNCTION tandem.report_guards IS 'Section of report(): guards with their state, and every time one fired';
