# Tasks against a model: many sessions change the same few tasks at random, in transactions with savepoints, at every isolation level,
# rolled back, prepared, killed. Each accepted change is noted in a plain table in the same transaction. Afterwards that table, the events
# and the tasks must tell the same story: versions without gaps, payloads as the patches make them, one law of transitions.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $sessions = $ENV{TANDEM_ORACLE_SESSIONS} // 8;
my $rounds = $ENV{TANDEM_ORACLE_ROUNDS} // ($ENV{TANDEM_QUICK} ? 3 : 6);
my $node = tandem_node('oracle', preload => 1, conf => <<~'CONF');
	restart_after_crash = on
	max_prepared_transactions = 50
	deadlock_timeout = '20ms'
	lock_timeout = '100ms'
	CONF
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE EXTENSION amcheck;
	CREATE TABLE ids (n serial PRIMARY KEY, id uuid UNIQUE, key text);
	CREATE TABLE accepted (id uuid, version bigint, state text, patch jsonb, session integer, PRIMARY KEY (id, version));
	CREATE AGGREGATE merged(jsonb) (sfunc = jsonb_concat, stype = jsonb, initcond = '{}');
	-- What may not happen in any answer is a line that begins with FAULT.
	CREATE PROCEDURE fault(what text) LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'FAULT %', what; END $$;
	CREATE FUNCTION noise(n integer) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT string_agg(md5(random()::text), '') FROM generate_series(1, n) $$;

	CREATE PROCEDURE check_answer(me integer, task uuid, expected bigint, wanted text, patch jsonb, ok boolean, version bigint, state text, reason text) LANGUAGE plpgsql AS $$
	BEGIN
	    IF ok THEN
	        IF version <> expected + 1 OR state <> wanted OR reason IS NOT NULL THEN CALL fault(format('accepted: %s %s %s %s %s', expected, wanted, version, state, reason)); END IF;
	        INSERT INTO accepted VALUES (task, version, state, patch, me);
	    ELSIF reason LIKE 'stale:%' THEN
	        IF version = expected THEN CALL fault('stale, but it is the expected version'); END IF;
	    ELSIF reason LIKE 'illegal:%' THEN
	        IF version <> expected OR state = wanted AND state NOT IN ('done', 'dead', 'cancelled')
	           OR EXISTS (SELECT FROM tandem.transition AS t WHERE t.kind = '*' AND t.from_state = state AND t.to_state = wanted) THEN CALL fault(format('illegal: %s to %s', state, wanted)); END IF;
	    ELSIF reason LIKE 'missing:%' THEN
	        CALL fault('missing');
	    ELSIF reason NOT LIKE 'not done:%' THEN
	        CALL fault('an answer of another kind: ' || coalesce(reason, 'NULL'));
	    END IF;
	END $$;

	CREATE PROCEDURE step(me integer) LANGUAGE plpgsql AS $$
	DECLARE
	    states CONSTANT text[] := '{pending,claimed,running,running,running,failed,escalated,pending,dead,done,cancelled}';
	    picked uuid[]; expected bigint[]; wanted text[]; patches jsonb[]; n integer; a record; i integer; made record; v bigint;
	BEGIN
	    IF random() < 0.08 THEN
	        SELECT * INTO made FROM tandem.task_create('k', jsonb_build_object('by', me), CASE WHEN random() < 0.7 THEN 'key ' || (random() * 60)::integer END);
	        IF made.created THEN
	            INSERT INTO ids (id) VALUES (made.id);
	            INSERT INTO accepted VALUES (made.id, 1, 'pending', jsonb_build_object('by', me), me);
	        ELSIF NOT EXISTS (SELECT FROM accepted AS x WHERE x.id = made.id) AND current_setting('transaction_isolation') = 'read committed' THEN
	            CALL fault('a task that nobody made');
	        END IF;
	        RETURN;
	    END IF;
	    n := CASE WHEN random() < 0.7 THEN 1 ELSE 1 + (random() * 6)::integer END;
	    SELECT array_agg(x.id), array_agg(x.version + CASE WHEN random() < 0.1 THEN 1 WHEN random() < 0.1 THEN -1 ELSE 0 END), array_agg(states[1 + floor(random() * 11)::integer]),
	           array_agg(CASE WHEN random() < 0.7 THEN jsonb_build_object('s' || me, random(), 'x', CASE WHEN random() < 0.2 THEN noise((random() * 100)::integer) ELSE md5(random()::text) END) END)
	      INTO picked, expected, wanted, patches
	      FROM (SELECT t.id, t.version FROM tandem.task AS t ORDER BY random() LIMIT n) AS x;
	    IF picked IS NULL THEN RETURN; END IF;
	    IF n = 1 AND random() < 0.7 THEN
	        SELECT * INTO a FROM tandem.task_cas(picked[1], expected[1], wanted[1], patches[1]);
	        CALL check_answer(me, picked[1], expected[1], wanted[1], patches[1], a.ok, a.version, a.state, a.reason);
	    ELSIF n = 1 THEN
	        BEGIN
	            v := tandem.task_cas_strict(picked[1], expected[1], wanted[1], patches[1]);
	            CALL check_answer(me, picked[1], expected[1], wanted[1], patches[1], true, v, wanted[1], NULL);
	            IF random() < 0.2 THEN RAISE SQLSTATE 'XX999'; END IF;
	        EXCEPTION WHEN SQLSTATE 'PT409' OR SQLSTATE 'PT422' OR SQLSTATE 'XX999' THEN
	            NULL;
	        END;
	    ELSIF random() < 0.7 THEN
	        i := 0;
	        FOR a IN SELECT m.*, count(*) FILTER (WHERE m.ok) OVER () AS oks FROM tandem.task_cas_many(picked, expected, wanted, patches) WITH ORDINALITY AS m ORDER BY ordinality LOOP
	            i := i + 1;
	            IF a.id <> picked[i] THEN CALL fault('not in the order given'); END IF;
	            IF a.oks NOT IN (0, cardinality(picked)) THEN CALL fault('not all or nothing'); END IF;
	            CALL check_answer(me, picked[i], expected[i], wanted[i], patches[i], a.ok, a.version, a.state, a.reason);
	        END LOOP;
	    ELSE
	        FOR a IN SELECT * FROM tandem.task_cas_many(picked, expected, wanted, patches, false) WITH ORDINALITY LOOP
	            CALL check_answer(me, picked[a.ordinality], expected[a.ordinality], wanted[a.ordinality], patches[a.ordinality], a.ok, a.version, a.state, a.reason);
	        END LOOP;
	    END IF;
	END $$;

	WITH made AS (SELECT n, c.id FROM generate_series(1, 40) AS n, LATERAL tandem.task_create('k', jsonb_build_object('by', n - n)) AS c), i AS (INSERT INTO ids (id) SELECT id FROM made)
	INSERT INTO accepted SELECT id, 1, 'pending', '{"by": 0}', 0 FROM made;
	SQL

srand($seed);
my $label = 0;
# What a session does: transactions of a few steps each.
sub script
{
	my ($me) = @_;
	my @lines = ("SELECT setseed(" . (rand(2) - 1) . ");");
	for (1 .. 120)
	{
		my $level = (('READ COMMITTED') x 5, 'REPEATABLE READ', 'SERIALIZABLE')[ rand 7 ];
		push @lines, "BEGIN ISOLATION LEVEL $level;";
		for (0 .. rand 4)
		{
			my $savepoint = rand() < 0.3;
			push @lines, 'SAVEPOINT s;' if $savepoint;
			push @lines, "CALL step($me);";
			push @lines, rand() < 0.5 ? 'ROLLBACK TO s;' : 'RELEASE s;' if $savepoint;
		}
		my $end = rand();
		$label++;
		push @lines, $end < 0.75 ? 'COMMIT;' : $end < 0.85 ? 'ROLLBACK;' : $end < 0.99
		  ? ("PREPARE TRANSACTION 'p$label';", 'SELECT pg_sleep(' . rand(0.02) . ');', (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p$label';")
		  : "PREPARE TRANSACTION 'left$label';";
	}
	return join "\n", @lines;
}

my %met;
for my $round (1 .. $rounds)
{
	my @running;
	for my $me (1 .. $sessions)
	{
		my %s = (file => "$PostgreSQL::Test::Utils::tmp_check/session_$me");
		PostgreSQL::Test::Utils::append_to_file("$s{file}.$round.sql", script($me));
		my @command = ($node->installed_command('psql'), '-qXAt', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-f', "$s{file}.$round.sql");
		$s{run} = IPC::Run::start(\@command, '<', '/dev/null', '>', '/dev/null', '2>', "$s{file}.err");
		push @running, \%s;
	}
	# An old snapshot keeps dead versions: pages fill, and updates are no longer HOT.
	my $old = $round % 2 ? $node->background_psql('postgres') : undef;
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tandem.task') if $old;
	if ($round % 3 == 0)
	{
		usleep(100_000 + rand 400_000);
		my $killed = 0;
		for (1 .. 300)
		{
			last if $killed = kill_process($node, value($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1)));
			usleep(50_000);
		}
		ok($killed, "round $round: a session was killed");
	}
	$_->{run}->finish for @running;
	eval { $old->quit } if $old;
	wait_until($node, 'true') or die 'the server does not come back';
	# Those that were left prepared are decided by somebody else.
	for my $left (split /\n/, value($node, 'SELECT gid FROM pg_prepared_xacts'))
	{
		value($node, (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$left'");
	}
	my $said = join '', map { PostgreSQL::Test::Utils::slurp_file("$_->{file}.err") } @running;
	is_deeply([ $said =~ /(FAULT .*)/g ], [], "round $round: no answer was wrong");
	$met{$1}++ while $said =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/g;

	is(value($node, <<~'SQL'), '', "round $round: versions without gaps; as many as accepted changes, and as events");
		SELECT t.id, t.version FROM tandem.task AS t WHERE t.kind = 'k'
		   AND (t.version <> (SELECT count(*) FROM accepted AS a WHERE a.id = t.id) OR t.version <> (SELECT max(version) FROM accepted AS a WHERE a.id = t.id)
		     OR (SELECT array_agg(e.version ORDER BY e.version) FROM tandem.event AS e WHERE e.task_id = t.id) IS DISTINCT FROM (SELECT array_agg(v) FROM generate_series(1, t.version) AS v))
		UNION ALL SELECT id, NULL FROM accepted AS a WHERE NOT EXISTS (SELECT FROM tandem.task AS t WHERE t.id = a.id)
		SQL
	is(value($node, <<~'SQL'), '', "round $round: each event has the state that was accepted");
		SELECT a.* FROM accepted AS a WHERE NOT EXISTS (SELECT FROM tandem.event AS e WHERE e.task_id = a.id AND e.version = a.version AND e.state = a.state)
		SQL
	is(value($node, <<~'SQL'), '', "round $round: payloads are as the patches make them, states the last ones");
		SELECT t.id FROM tandem.task AS t, LATERAL (SELECT merged(coalesce(a.patch, '{}') ORDER BY a.version) AS payload, (array_agg(a.state ORDER BY a.version DESC))[1] AS state FROM accepted AS a WHERE a.id = t.id) AS model
		 WHERE (t.payload, t.state) IS DISTINCT FROM (model.payload, model.state)
		SQL
	is(value($node, <<~'SQL'), '', "round $round: every change was legal");
		SELECT * FROM (SELECT state AS was, lead(state) OVER (PARTITION BY id ORDER BY version) AS became FROM accepted) AS c
		 WHERE became IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.transition AS t WHERE t.kind = '*' AND t.from_state = was AND t.to_state = became)
		   AND NOT (was = became AND was NOT IN ('done', 'dead', 'cancelled'))
		SQL
	is(value($node, q(SELECT count(*) - count(DISTINCT idem_key) FROM tandem.task WHERE idem_key IS NOT NULL)), 0, "round $round: a key was used once");
	is(value($node, <<~'SQL'), '', "round $round: task_ready has the claimable tasks, each once");
		SELECT id FROM tandem.task WHERE state IN ('pending', 'escalated') OR (state = 'failed' AND attempt < max_attempts) EXCEPT ALL SELECT task_id FROM tandem.task_ready
		UNION ALL (SELECT task_id FROM tandem.task_ready EXCEPT ALL SELECT id FROM tandem.task WHERE state IN ('pending', 'escalated') OR (state = 'failed' AND attempt < max_attempts))
		SQL
	value($node, q(SELECT bt_index_check(i, true) FROM unnest('{tandem.task_pkey,tandem.task_idem_key}'::regclass[]) AS i));
}
note 'errors met: ', join ', ', map { "$_ $met{$_}" } sort keys %met;
is_deeply([ grep { !/^(40001|40P01|55P03|25P02|57P0[12]|08006|42704|3B001)$/ } keys %met ], [], 'no errors but those of conflicts, and of the crash');
my ($changes, $hot, $updates) = split /\|/, value($node, q(SELECT (SELECT count(*) FROM accepted), n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relid = 'tandem.task'::regclass));
note "$changes changes accepted; HOT: $hot of $updates";
cmp_ok($changes, '>', 100 * $rounds, 'much was changed');

# Work as it is usual: each of many tasks goes its way, a transaction for each step. No update needs a new index entry. Nobody else may have a snapshot
# meanwhile, which would keep pages full for as long as the machine lets it wait.
value($node, $_) foreach ("ALTER SYSTEM SET autovacuum = off", "ALTER SYSTEM SET tandem.naptime = '1 min'", 'SELECT pg_reload_conf()');
$node->poll_query_until('postgres', q(SELECT current_setting('tandem.naptime') = '1min' AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (backend_type = 'autovacuum worker' OR backend_xmin IS NOT NULL))))
  or die 'somebody is at work still';
value($node, <<~'SQL');
	CREATE TABLE way AS SELECT (tandem.task_create('way', jsonb_build_object('n', n))).id FROM generate_series(1, 1000) AS n;
	VACUUM ANALYZE tandem.task;
	SELECT pg_stat_reset_single_table_counters('tandem.task'::regclass);
	DO $$
	DECLARE
	    task record;
	    states CONSTANT text[] := '{claimed,running,running,running,failed,pending,claimed,running,escalated,running,running,done}';
	BEGIN
	    FOR step IN 1..12 LOOP
	        FOR task IN SELECT id FROM way LOOP
	            PERFORM tandem.task_cas_strict(task.id, step, states[step], jsonb_build_object('step', step));
	            COMMIT;
	        END LOOP;
	    END LOOP;
	END $$;
	SQL
ok($node->poll_query_until('postgres', q(SELECT n_tup_upd = 12000 FROM pg_stat_user_tables WHERE relid = 'tandem.task'::regclass)), '12,000 steps');
# A snapshot of the worker's may keep a page full for a moment.
cmp_ok(value($node, q(SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'tandem.task'::regclass)), '<=', 120, 'updates were HOT, but for one in a hundred');
$node->stop;
done_testing();
