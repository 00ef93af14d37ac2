# Guards with the worker: a condition that becomes true is a rollback within a round, and heard of; holds at random, with crashes in the middle,
# against the clock as oracle; rollbacks by hand at the same moment; dump and restore; a run that waits at a gate.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\n");
$node->start;
my $rounds = $ENV{TANDEM_QUICK} ? 2 : 5;

value($node, <<~'SQL');
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE ROLE keeper LOGIN;
	SELECT tandem.grant_role('keeper', 'operator');
	CREATE SCHEMA legacy AUTHORIZATION keeper;
	CREATE SCHEMA store AUTHORIZATION keeper;
	SET ROLE keeper;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, name text);
	CREATE TABLE store.item (id integer PRIMARY KEY, name text);
	CREATE TABLE legacy.level (value double precision);
	INSERT INTO legacy.level VALUES (1);
	INSERT INTO legacy.item SELECT i, 'item ' || i FROM generate_series(1, 5) AS i;
	SELECT tandem.create_run('r', 'legacy', 'store', steps => '{50,100}', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item');
	SELECT tandem.set_option('r', 'validate_every', '200 ms'), tandem.set_option('r', 'guard_every', '100 ms');
	SELECT tandem.add_metric('r', 'level', 'SELECT value FROM legacy.level', 'true', every => '100 ms');
	SELECT tandem.start('r');
	SQL

# The run live again: retried where it went back, and promoted.
sub goes_live
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	value($node, 'UPDATE legacy.level SET value = 1');
	becomes($node, "value = 1 FROM tandem.metrics WHERE metric = 'level'", 'the level is as it should be');
	return if state_of($node, 'r') eq 'live progressing 50';
	if (state_of($node, 'r') =~ /degraded/)
	{
		becomes($node, "bool_and(verdict <> 'pending') FROM tandem.rollback_proofs", 'the proof is made');
		value($node, "SELECT tandem.retry('r', 'again')");
	}
	becomes($node, "stage = 'shadow' AND differences = 0 AND validated_at > moved_at FROM tandem.runs", 'validated');
	value($node, "SELECT tandem.promote('r', 50, 'by the test')");
	is(state_of($node, 'r'), 'live progressing 50', 'live');
	return;
}

# A test: each latched guard once, each firing with its event, its alert and, where it rolled back, the rollback that stood when it was recorded: its
# own, or that of somebody who did it by hand and was faster.
sub consistent
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, <<~'SQL'), '0|0|0|0', $what);
		SELECT (SELECT count(*) FROM tandem.guard_firings) - (SELECT count(*) FROM tandem.event WHERE kind = 'guard_fired'),
		       (SELECT count(*) FROM tandem.guard_firings AS f JOIN tandem.event AS e ON e.kind = 'guard_fired' AND (e.evidence ->> 'firing')::bigint = f.firing
		         WHERE f.action = 'rollback' AND NOT EXISTS (SELECT FROM tandem.rollback_proofs AS b WHERE b.proof = f.rollback AND b.automatic = (b.reason <> 'by hand')
		                                                        AND b.proof = (SELECT max(x.proof) FROM tandem.rollback_proofs AS x WHERE x.at <= e.at))),
		       (SELECT count(*) FROM tandem.rollback_proofs AS b WHERE b.automatic AND NOT EXISTS (SELECT FROM tandem.guard_firings AS f WHERE f.rollback = b.proof)),
		       (SELECT count(*) FROM tandem.guard_firings AS f WHERE NOT EXISTS (SELECT FROM tandem.alerts AS a WHERE a.alert = f.alert))
		SQL
	return;
}

subtest 'a condition that becomes true is a rollback, and heard of' => sub {
	goes_live();
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'too high', 'level > 5')");
	my $listener = $node->background_psql('postgres');
	$listener->query('LISTEN tandem_alert; LISTEN tandem_run');
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", 'the run goes back');
	is(side_of($node, 'r', 1), 'legacy', 'and with it everybody');
	my $heard = '';
	for (1 .. 100)
	{
		$heard .= $listener->query('SELECT 1');
		last if $heard =~ /"rule": "guard too high"/ && $heard =~ /"event": "guard_fired"/;
		sleep 0.1;
	}
	like($heard, qr/"rule": "guard too high".*"severity": "critical"/, 'a listener hears the alert');
	like($heard, qr/"event": "guard_fired"/, '... and the run');
	$listener->quit;
	like(value($node, "SELECT reason FROM tandem.rollback_proofs"), qr/^guard too high: level > 5 \(level 6\)$/, 'the rollback says why');
	becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", 'its proof is clean');
	is(sqlstate($node, "SELECT tandem.promote('r')"), '55000', 'it is not promoted');
	consistent('all is recorded');
	value($node, "SELECT tandem.drop_guard('r', 'too high')");
};

subtest 'paused, a run is guarded all the same' => sub {
	goes_live();
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'too high', 'level > 5')");
	value($node, "SELECT tandem.pause('r', 'lunch')");
	sleep 0.5;
	is(state_of($node, 'r'), 'live paused 50', 'paused');
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", 'it goes back');
	value($node, "SELECT tandem.drop_guard('r', 'too high')");
};

subtest 'holds at random, with crashes in the middle: never too early, never not at all' => sub {
	seed();
	my $hold = 1.5;
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'held', 'level > 5', hold => '$hold seconds')");
	for my $round (1 .. $rounds)
	{
		goes_live();
		my $fired = value($node, "SELECT count(*) FROM tandem.guard_firings WHERE guard = 'held'");
		my $long = rand() < 0.5;
		my $crash = rand() < 0.4;
		my $began = time;
		value($node, 'UPDATE legacy.level SET value = 6');
		sleep($long ? 1 + rand(1) : rand(0.9));
		if ($crash)
		{
			$node->stop('immediate');
			$node->start;
		}
		if ($long)
		{
			becomes($node, "count(*) > $fired FROM tandem.guard_firings WHERE guard = 'held'", "round $round: true for long" . ($crash ? ', with a crash' : '') . ': it fires');
			my $held = value($node, "SELECT extract(epoch FROM held) FROM tandem.guard_firings WHERE guard = 'held' ORDER BY firing DESC LIMIT 1");
			cmp_ok($held, '>=', $hold, '... after its hold');
			cmp_ok(time - $began, '>=', $hold, '... and not before by the clock');
		}
		else
		{
			value($node, 'UPDATE legacy.level SET value = 1');
			becomes($node, "value = 1 FROM tandem.metrics WHERE metric = 'level'", "round $round: not for long" . ($crash ? ', with a crash' : ''));
			my $known = time - $began; # until it is measured anew it is what it was: for so long at most
			sleep 0.5;
			my $now = value($node, "SELECT count(*) FROM tandem.guard_firings WHERE guard = 'held'");
			if ($known < $hold)
			{
				is($now, $fired, sprintf '... true for %.1f s: it does not fire', $known);
			}
			else
			{
				cmp_ok($now - $fired, '<=', 1, sprintf '... true for %.1f s, as the restart or the measurement took long: once at most', $known);
			}
		}
		consistent('... and all is recorded');
	}
	value($node, "SELECT tandem.drop_guard('r', 'held')");
};

subtest 'somebody rolls back by hand at the same moment: one rollback, both recorded' => sub {
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'raced', 'level > 5')");
	my $level = $node->background_psql('postgres'); # there already: a guard waits for a rollback by hand for a second, and then does its own
	my ($together, $end) = (0, time + 100);
	for (my $round = 1; $together < 3 && time < $end; $round++)
	{
		goes_live();
		my $before = value($node, 'SELECT count(*) FROM tandem.rollback_proofs');
		my $holder = $node->background_psql('postgres');
		$holder->query('BEGIN');
		$level->query('UPDATE legacy.level SET value = 6') if $round % 3;
		sleep(rand(0.3));
		my $held = time;
		$holder->query("SELECT * FROM tandem.rollback('r', 'by hand')");
		sleep(rand(0.5));
		$level->query('UPDATE legacy.level SET value = 6');
		$holder->query('COMMIT');
		$held = time - $held;
		$holder->quit;
		becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", "round $round: it is back");
		sleep 0.7;
		my $rollbacks = value($node, 'SELECT count(*) FROM tandem.rollback_proofs') - $before;
		if ($held < 0.9)
		{
			is($rollbacks, 1, '... by one rollback');
			$together++;
		}
		else
		{
			like($rollbacks, qr/^[12]$/, sprintf '... by two at most: that by hand took %.1f s', $held);
		}
		consistent('... and all is recorded');
	}
	$level->quit;
	value($node, "SELECT tandem.drop_guard('r', 'raced')");
};

subtest 'rounds that fail keep no guard from firing' => sub {
	goes_live();
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'held', 'level > 5', hold => '1 second')");
	value($node, "UPDATE tandem.mapping_column SET name = name || '_gone'");
	becomes($node, "error IS NOT NULL FROM tandem.run_activity", 'a round fails');
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", '... but the run goes back');
	is(value($node, 'SELECT count(*) FROM tandem.run_activity WHERE error IS NULL'), 0, '... while rounds fail still');
	value($node, "UPDATE tandem.mapping_column SET name = left(name, -5)");
	value($node, "SELECT tandem.drop_guard('r', 'held')");
	consistent('all is recorded');
};

subtest 'nor does who keeps the rounds out' => sub {
	goes_live();
	value($node, "SELECT tandem.set_option('r', 'heartbeat_timeout', '1 second')");
	my $holder = $node->background_psql('postgres');
	$holder->query($_) foreach ('BEGIN', "SELECT FROM tandem.repair('r', dry_run => true)");
	becomes($node, "waiting_for LIKE 'the worker: no round since%' FROM tandem.runs", 'nobody watches a run of which a repair was left open');
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'too high', 'level > 5')");
	becomes($node, "waiting_for NOT LIKE 'the worker: no round since%' FROM tandem.runs", '... but for its guards');
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "weight = 0 FROM tandem.domains", 'a guard takes it back');
	is(side_of($node, 'r', 1), 'legacy', '... and with it everybody');
	$holder->query('COMMIT');
	$holder->quit;
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", 'the run knows');
	value($node, "SELECT tandem.drop_guard('r', 'too high')");
	value($node, "SELECT tandem.set_option('r', 'heartbeat_timeout', '1 minute')");
	consistent('all is recorded');
};

subtest 'a rollback by a metric that somebody has seen is there after a crash' => sub {
	goes_live();
	# Whatever is committed asynchronously is lost: nobody else writes the log to disk for a while.
	value($node, $_) foreach ("ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'", 'SELECT pg_reload_conf()');
	becomes($node, "setting = '10000' FROM pg_settings WHERE name = 'wal_writer_delay'", 'the server is lazy');
	value($node, "SET ROLE keeper; SELECT tandem.add_metric('r', 'doom', 'SELECT value FROM legacy.level', 'result < 5', 'result > 5', every => '100 ms', failure_limit => 1, critical => true)");
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs", 'the run goes back');
	$node->stop('immediate');
	$node->start;
	is(state_of($node, 'r'), 'shadow degraded 0', 'it is back');
	is(value($node, 'SELECT left(reason, 11) FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1'), 'metric doom', 'by that metric');
	value($node, $_) foreach ('ALTER SYSTEM RESET synchronous_commit', 'ALTER SYSTEM RESET wal_writer_delay', 'SELECT pg_reload_conf()');
	value($node, "SELECT tandem.drop_metric('r', 'doom')");
};

subtest 'a dump carries guards and what they did' => sub {
	goes_live();
	value($node, "SET ROLE keeper; SELECT tandem.add_guard('r', 'kept', 'level > 5', hold => '1 minute', min_samples => 7), tandem.add_guard('r', 'alerts', 'level >= 0', severity => 3)");
	becomes($node, "status = 'fired' FROM tandem.guards WHERE guard = 'alerts'", 'one is latched');
	my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump.sql';
	$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'dumped');
	value($node, 'CREATE DATABASE copy');
	$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--file', $dump, $node->connstr('copy') ], 'restored, while the worker of that database is there');
	foreach my $query ('SELECT run, guard, condition, hold, min_samples, severity, template FROM tandem.guards ORDER BY 2', 'SELECT guard, fired_at, reason, trail, armed_at FROM tandem.guard_firings ORDER BY firing')
	{
		is($node->safe_psql('copy', $query), value($node, $query), $query);
	}
	is($node->safe_psql('copy', "SELECT status FROM tandem.guards WHERE guard = 'alerts'"), 'fired', 'what was latched is');
};

subtest 'a run that waits for approval is guarded, and what was signed is sealed' => sub {
	value($node, <<~'SQL');
		SET client_min_messages = warning;
		CREATE ROLE signer LOGIN;
		SELECT tandem.grant_role('signer', 'approver');
		SET ROLE keeper;
		CREATE TABLE legacy.part (id integer PRIMARY KEY, name text);
		CREATE TABLE store.part (id integer PRIMARY KEY, name text);
		INSERT INTO legacy.part SELECT i, 'part ' || i FROM generate_series(1, 5) AS i;
		UPDATE legacy.level SET value = 1;
		SELECT tandem.create_run('w', 'legacy', 'store', steps => '{50,100}', hold => '0');
		SELECT tandem.map_table('w', 'legacy.part', 'store.part');
		SELECT tandem.set_option('w', 'validate_every', '200 ms'), tandem.set_option('w', 'guard_every', '100 ms');
		SELECT tandem.add_metric('w', 'level', 'SELECT value FROM legacy.level', 'true', every => '100 ms');
		SELECT tandem.add_guard('w', 'too high', 'level > 5');
		SELECT tandem.add_gate('w', 'go live', 'live'), tandem.add_gate('w', 'all of it', 'live', 100);
		SELECT tandem.start('w');
		SQL
	becomes($node, "concat_ws(' ', stage, phase, weight) = 'shadow waiting_approval 0' FROM tandem.runs WHERE run = 'w'", 'the worker comes to the first gate');
	value($node, "SET ROLE signer; SELECT tandem.sign_off('w', 'go live', 'go', 'by the test')");

	my $signature = "FROM tandem.decisions AS d JOIN tandem.event AS e ON e.kind = 'sign_off' AND e.run = d.run AND (e.evidence ->> 'decision_id')::bigint = d.id WHERE d.run = 'w' AND d.gate = 'go live'";
	my $genuine = "SELECT encode(sha256(convert_to((d.evidence - 'digest')::text, 'UTF8')), 'hex') = e.evidence ->> 'digest' $signature";
	becomes($node, "(SELECT sealed_seq FROM tandem.audit_status()) >= e.seq $signature", 'the event of the signature is sealed');
	is(value($node, $genuine), 't', '... with the digest of the evidence');
	value($node, "UPDATE tandem.decision SET evidence = jsonb_set(evidence, '{differences}', '7') WHERE gate = 'go live'");
	is(value($node, $genuine), 'f', 'evidence that is tampered with has another');
	is(value($node, 'SELECT ok FROM tandem.audit_verify()'), 't', '... and the seals hold: it is not the event that was changed');
	value($node, "UPDATE tandem.decision SET evidence = jsonb_set(evidence, '{differences}', '0') WHERE gate = 'go live'");
	is(value($node, $genuine), 't', 'as it was');

	becomes($node, "concat_ws(' ', stage, phase, weight) = 'live waiting_approval 50' FROM tandem.runs WHERE run = 'w'", 'signed, it goes live, and comes to the next gate');
	is(value($node, "SELECT count(*) FROM tandem.events('w') WHERE kind = 'await'"), 2, '... by the worker, with an event each time');
	my $looks = "measurements FROM tandem.metrics WHERE run = 'w' AND metric = 'level'";
	my $seen = value($node, "SELECT $looks");
	value($node, 'UPDATE legacy.level SET value = 5');
	becomes($node, "measurements > $seen + 5 AND value = 5 FROM tandem.metrics WHERE run = 'w' AND metric = 'level'", 'the level is as high as it may be, for a few looks');
	is(state_of($node, 'w'), 'live waiting_approval 50', '... and the run waits');
	is(value($node, "SELECT count(*) FROM tandem.guard_firings WHERE run = 'w'"), 0, '... without a firing');
	value($node, 'UPDATE legacy.level SET value = 6');
	becomes($node, "phase = 'degraded' AND weight = 0 FROM tandem.runs WHERE run = 'w'", 'a limit breached while it waits takes it back');
	is(side_of($node, 'w', 1), 'legacy', '... and with it everybody');
	is(value($node, "SELECT concat_ws('|', action, reason) FROM tandem.guard_firings WHERE run = 'w'"), 'rollback|guard too high: level > 5 (level 6)', '... by the guard');
	is(value($node, "SELECT concat_ws('|', from_weight, automatic) FROM tandem.rollback AS b JOIN tandem.run AS r ON r.id = b.run_id WHERE r.name = 'w'"), '50|t', '... from where it waited');
	is(value($node, "SELECT void FROM tandem.decisions WHERE run = 'w' AND gate = 'go live'"), 'a rollback since', 'what was signed is void');
};

$node->stop;
done_testing();
