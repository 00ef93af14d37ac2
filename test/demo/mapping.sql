-- The run, and what each column of one side is on the other. Columns not named here have the same name on both sides; a bare column
-- is reversed by itself; what is computed needs its reverse.
SELECT tandem.create_run('bank', 'legacy', 'bank', steps => '{5,25,50}', hold => :'hold');

SELECT tandem.map_table('bank', 'legacy.pgbench_branches', 'bank.branch',
    forward => '{"id": "bid", "balance": "(bbalance / 100.0)::numeric(14,2)", "note": "filler"}',
    reverse => '{"bbalance": "balance * 100"}');

SELECT tandem.map_table('bank', 'legacy.pgbench_tellers', 'bank.teller',
    forward => '{"id": "tid", "branch_id": "bid", "balance": "(tbalance / 100.0)::numeric(14,2)", "note": "filler"}',
    reverse => '{"tbalance": "balance * 100"}');

SELECT tandem.map_table('bank', 'legacy.pgbench_accounts', 'bank.account',
    forward => '{"id": "aid", "branch_id": "bid", "balance": "(abalance / 100.0)::numeric(14,2)",
                 "status": "CASE WHEN abalance < 0 THEN ''overdrawn'' ELSE ''ok'' END",
                 "currency": "left(filler, 3)", "customer": "substr(filler, 4)"}',
    reverse => '{"abalance": "balance * 100", "filler": "currency || customer"}');

SELECT tandem.map_table('bank', 'legacy.pgbench_history', 'bank.entry', bucket_by => 'account_id',
    forward => '{"account_id": "aid", "desk": "bid::text || ''/'' || tid::text", "amount": "(delta / 100.0)::numeric(14,2)",
                 "booked_at": "mtime AT TIME ZONE ''UTC''", "door": "filler"}',
    reverse => '{"bid": "split_part(desk, ''/'', 1)::int", "tid": "split_part(desk, ''/'', 2)::int", "delta": "amount * 100",
                 "mtime": "booked_at AT TIME ZONE ''UTC''"}');

SELECT tandem.set_option('bank', 'validate_every', :'every');
