-- What came of test/bench/soak.sh: the law of sums on both sides, against what pgbench says it committed.
\pset fieldsep ' '
SELECT 'transactions', :processed, 'tps', :tps, 'clients', :clients, 'minutes', :minutes;
SELECT 'lost writes', greatest(:processed - (SELECT count(*) FROM legacy.history), 0) + greatest(:processed - (SELECT count(*) FROM bank.history), 0)
     + (SELECT count(*) FROM legacy.account AS a LEFT JOIN (SELECT aid, sum(delta) AS delta FROM legacy.history GROUP BY aid) AS h USING (aid) WHERE a.balance <> coalesce(h.delta, 0))
     + (SELECT count(*) FROM bank.account AS a LEFT JOIN (SELECT account_id, sum(delta) AS delta FROM bank.history GROUP BY account_id) AS h USING (account_id) WHERE a.cents <> coalesce(h.delta, 0))
     + (SELECT count(*) FROM legacy.teller AS t WHERE t.balance <> (SELECT coalesce(sum(h.delta), 0) FROM legacy.history AS h WHERE h.tid = t.tid))
     + (SELECT count(*) FROM bank.teller AS t WHERE t.cents <> (SELECT coalesce(sum(h.delta), 0) FROM bank.history AS h WHERE h.teller_id = t.teller_id))
     + (SELECT count(*) FROM legacy.branch AS b WHERE b.balance <> (SELECT coalesce(sum(h.delta), 0) FROM legacy.history AS h WHERE h.bid = b.bid))
     + (SELECT count(*) FROM bank.branch AS b WHERE b.cents <> (SELECT coalesce(sum(h.delta), 0) FROM bank.history AS h WHERE h.branch_id = b.branch_id))
     + (SELECT count(*) FROM legacy.account AS l FULL JOIN bank.account AS n ON n.account_id = l.aid WHERE (l.balance * 100::bigint) IS DISTINCT FROM n.cents)
     + (SELECT count(*) FROM legacy.history AS l FULL JOIN bank.history AS n ON n.id = l.id WHERE (l.delta * 100::bigint, l.aid) IS DISTINCT FROM (n.delta, n.account_id));
SELECT 'false rollbacks', count(*) FROM tandem.rollback;
SELECT 'validations', count(DISTINCT c.started_at), 'of everything', count(DISTINCT c.started_at) FILTER (WHERE c.scope = 'full'), 'differences', coalesce(sum(c.missing + c.extra + c.changed + c.duplicates + c.errors), 0),
       'failed rounds', (SELECT count(*) FROM tandem.event WHERE kind = 'round_failed') FROM tandem.comparison AS c WHERE c.purpose = 'validate';
