# Verbs at random: sessions say all of them to three runs, in transactions of their own and in longer ones that commit or abort, while the
# worker goes its way, a client writes and the server crashes. Afterwards the events are replayed: each move must follow by the law from the
# one before, no epoch is missing, a gate was passed only with a signature that counted, and no run is stuck.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $crashes = $ENV{TANDEM_QUICK} ? 1 : 3;
my $node = tandem_node('verbs', preload => 1, conf => "tandem.naptime = '100ms'\n");
$node->start;
value($node, <<~'SQL');
	SET client_min_messages = error;
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE SCHEMA test;
	CREATE ROLE asker; CREATE ROLE first; CREATE ROLE second;
	SELECT tandem.grant_role('asker', 'operator'), tandem.grant_role('first', 'approver'), tandem.grant_role('second', 'approver');
	DO $$ BEGIN FOR i IN 1..3 LOOP
		EXECUTE format('CREATE TABLE legacy.item%1$s (id integer PRIMARY KEY, qty integer NOT NULL); CREATE TABLE store.item%1$s (id bigint PRIMARY KEY, qty bigint NOT NULL);'
		               'INSERT INTO legacy.item%1$s SELECT i, i FROM generate_series(1, 50) AS i', i);
	END LOOP; END $$;
	CREATE TABLE test.slot (n integer PRIMARY KEY, run text NOT NULL);
	CREATE TABLE test.refused (verb text, sqlstate text, n bigint, PRIMARY KEY (verb, sqlstate));

	-- Another run for a slot: its tables have no mirrors any more.
	CREATE FUNCTION test.renew(slot integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		name text := format('r%s_%s', slot, (SELECT count(*) FROM tandem.runs AS r WHERE r.run LIKE format('r%s_%%', slot)));
	BEGIN
		EXECUTE format('DELETE FROM store.item%s', slot); -- nobody mirrored what was written since the last run
		PERFORM tandem.create_run(name, 'legacy', 'store', steps => '{10,50,100}', hold => '300 ms'),
		        tandem.map_table(name, format('legacy.item%s', slot)::regclass, format('store.item%s', slot)::regclass),
		        tandem.set_option(name, 'validate_every', '100 ms'), tandem.set_option(name, 'batch_size', '20'),
		        tandem.set_option(name, 'retention', (ARRAY['0', '200 ms'])[1 + length(name) % 2]);
		PERFORM set_config('role', 'asker', true);
		PERFORM tandem.add_gate(name, 'half', 'live', 50, approvals => 1 + slot % 2);
		PERFORM set_config('role', 'none', true);
		INSERT INTO test.slot VALUES (slot, name) ON CONFLICT (n) DO UPDATE SET run = EXCLUDED.run;
	END $$;
	SELECT test.renew(i) FROM generate_series(1, 3) AS i;

	-- A verb, said to whatever run is in the slot. That it is refused is no error: what is refused is not done. In a transaction with another verb, no
	-- tick(), which locks several runs and the other verb one of them; and no option behind the other verb, as it may stand before it elsewhere.
	CREATE FUNCTION test.say(slot integer, dice integer, longer boolean DEFAULT false, behind boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		r tandem.runs;
		verbs CONSTANT text[] := '{start,start,start,start,promote,promote,promote,promote,promote,promote,pause,resume,resume,resume,rollback,retry,retry,retry,retry,cancel,complete,complete,complete,complete,go,go,go,go,go,no_go,tick,tick,domain,option}';
		verb text := verbs[1 + dice % cardinality(verbs)];
	BEGIN
		SELECT v.* INTO r FROM test.slot AS s JOIN tandem.runs AS v ON v.run = s.run WHERE s.n = slot;
		IF verb IN ('rollback', 'domain', 'cancel') AND dice / 64 % 3 > 0 OR longer AND verb = 'tick' OR behind AND verb = 'option' THEN
			RETURN;
		END IF;
		IF r.phase IN ('cancelled', 'succeeded') THEN
			IF pg_try_advisory_xact_lock(slot) THEN
				PERFORM test.renew(slot) FROM test.slot AS s WHERE s.n = slot AND s.run = r.run;
			END IF;
			RETURN;
		END IF;
		PERFORM set_config('role', CASE WHEN verb IN ('go', 'no_go') THEN (ARRAY['first', 'second'])[1 + dice / 64 % 2] ELSE 'none' END, true);
		CASE verb
		WHEN 'start' THEN PERFORM tandem.start(r.run);
		WHEN 'promote' THEN PERFORM tandem.promote(r.run, CASE dice / 64 % 5 WHEN 0 THEN 50 WHEN 1 THEN 100 END);
		WHEN 'pause' THEN PERFORM tandem.pause(r.run);
		WHEN 'resume' THEN PERFORM tandem.resume(r.run);
		WHEN 'rollback' THEN PERFORM tandem.rollback(r.run, 'at random');
		WHEN 'domain' THEN PERFORM tandem.rollback(r.run, 'at random', domain => 'default');
		WHEN 'retry' THEN PERFORM tandem.retry(r.run);
		WHEN 'cancel' THEN PERFORM tandem.cancel(r.run);
		WHEN 'complete' THEN PERFORM tandem.complete(r.run, r.run);
		WHEN 'tick' THEN PERFORM tandem.tick();
		WHEN 'option' THEN PERFORM tandem.set_option(r.run, 'consecutive', (1 + dice / 64 % 3)::text);
		ELSE PERFORM tandem.sign_off(r.run, 'half', verb);
		END CASE;
		PERFORM set_config('role', 'none', true);
	EXCEPTION WHEN object_not_in_prerequisite_state OR lock_not_available OR invalid_parameter_value THEN
		PERFORM set_config('role', 'none', true);
	END $$;
	SQL
value($node, "SET client_min_messages = warning;\n" . slurp_file("$FindBin::Bin/replay.sql"));

my %scripts = (
	'alone.sql@6' => "\\set n random(1, 3)\n\\set dice random(0, 100000)\nSELECT test.say(:n, :dice);\n",
	'longer.sql@2' => "\\set n random(1, 3)\n\\set dice random(0, 100000)\n\\set other random(0, 100000)\n\\set us random(0, 30000)\n"
	  . "BEGIN;\nSELECT test.say(:n, :dice, true);\n\\sleep :us us\nSELECT test.say(:n, :other, true, true);\nCOMMIT;\n",
	'aborted.sql@1' => "\\set n random(1, 3)\n\\set dice random(0, 100000)\n\\set us random(0, 30000)\nBEGIN;\nSELECT test.say(:n, :dice);\n\\sleep :us us\nROLLBACK;\n");
my $every = q(NOT EXISTS (SELECT FROM unnest('{start,synced,promote,pause,resume,rollback,retry,cancel}'::text[]) AS k WHERE k NOT IN (SELECT kind FROM tandem.event)));
for my $life (1 .. $crashes + 1)
{
	my $verbs = traffic($node, 'verbs', \%scripts, '--client=6', '--jobs=1', '--rate=150', "--random-seed=$seed");
	my $writer = traffic($node, 'writer', { 'write.sql' => "\\set n random(1, 3)\n\\set id random(1, 50)\nUPDATE legacy.item:n SET qty = qty + 1 WHERE id = :id;\n" }, '--rate=50', "--random-seed=$seed");
	usleep(1000 * (3000 + int rand 1500));
	if ($life <= $crashes)
	{
		$node->stop('immediate');
		eval { $_->{run}->finish } foreach ($verbs, $writer); # they lost their server
		foreach my $traffic ($verbs, $writer)
		{
			my $errors = join '', grep { /ERROR/ } split /^/, $traffic->{err};
			is($errors, '', "no client of $traffic->{name} met an error before crash $life");
		}
		$node->start;
	}
	else
	{
		becomes($node, $every, 'however the dice fell: every verb was said where it counts');
		finish_traffic($verbs, 50);
		finish_traffic($writer);
	}
}

is(value($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM test.replay(); COMMIT'), '', 'every event follows from the one before by the law');
my $moves = value($node, "SELECT string_agg(x.kind || ' ' || x.n, ', ' ORDER BY x.kind) FROM (SELECT kind, count(*) AS n FROM tandem.event WHERE kind IN (SELECT verb FROM tandem.run_law()) GROUP BY kind) AS x");
diag("moves: $moves");
like($moves, qr/\b$_ \d/, "there was a $_") foreach qw(start synced promote pause resume rollback retry cancel);
is(value($node, "SELECT count(*) FROM tandem.event WHERE kind = 'round_failed'"), 0, 'no round failed')
  or diag(value($node, "SELECT reason, evidence FROM tandem.event WHERE kind = 'round_failed'"));
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nobody waited for each other');

subtest 'no run is stuck: each can be ended' => sub {
	foreach my $run (split /\n/, value($node, "SELECT run FROM tandem.runs WHERE phase NOT IN ('cancelled', 'succeeded')"))
	{
		if (value($node, "SELECT tandem.run_is_armed(stage) FROM tandem.runs WHERE run = '$run'") eq 't')
		{
			is(sqlstate($node, "SELECT tandem.rollback('$run', 'the end')"), '', "$run goes back");
			becomes($node, "NOT EXISTS (SELECT FROM tandem.rollback_proofs AS p WHERE p.run = '$run' AND verdict = 'pending' AND (SELECT stage FROM tandem.runs AS r WHERE r.run = '$run') <> 'dualwrite')", 'proven');
		}
		is(sqlstate($node, "SELECT tandem.cancel('$run')"), '', "$run is cancelled");
	}
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'and no mirror is left');
	is(value($node, "SELECT count(*) FROM tandem.rollback_proofs WHERE verdict IN ('explained', 'unexplained')"), 0, 'no proof found a difference')
	  or diag(value($node, 'SELECT p.run, p.proof, p.at, p.reason, p.verdict, p.proof_at, p.evidence FROM tandem.rollback_proofs AS p WHERE p.automatic OR p.differences > 0 ORDER BY p.proof')
		  . "\n" . value($node, 'SELECT run, id, purpose, started_at, scope, reason, missing, extra, changed, epoch FROM tandem.comparisons WHERE NOT clean ORDER BY id')
		  . "\n" . value($node, 'SELECT run, kind, key, legacy, new, found_at FROM tandem.differences ORDER BY id'));
	is(value($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM test.replay(); COMMIT'), '', 'the events still follow');
};

$node->stop;
done_testing();
