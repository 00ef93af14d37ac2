# Rollback: it waits for nobody, whatever the run is at; every strategy, under load, with the server killed in the middle of it, leaves a
# run that stands somewhere, a proof, and no write lost: what the clients counted is what both sides hold.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $node = tandem_node('rollback', preload => 1, conf => "tandem.naptime = '100ms'\nmax_connections = 60\n");
$node->start;
value($node, <<~'SQL');
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE ROLE night_shift LOGIN;
	SELECT tandem.grant_role('night_shift', 'oncall');
	CREATE SCHEMA legacy;
	CREATE SCHEMA bank;
	CREATE SCHEMA work;
	CREATE TABLE legacy.account (id integer PRIMARY KEY, cents integer NOT NULL);
	CREATE TABLE legacy.branch (id integer PRIMARY KEY, cents integer NOT NULL);
	CREATE TABLE bank.account (id bigint PRIMARY KEY, amount numeric NOT NULL);
	CREATE TABLE bank.branch (id bigint PRIMARY KEY, amount numeric NOT NULL);
	INSERT INTO legacy.account SELECT i, 0 FROM generate_series(1, 3000) AS i;
	INSERT INTO legacy.branch SELECT i, 0 FROM generate_series(1, 20) AS i;
	CREATE TABLE work.counted (cents integer NOT NULL);
	-- TPC-B in small, on the side that route() says: an account, a branch, and what was counted, in one transaction.
	CREATE FUNCTION work.pay(a integer, b integer, n integer) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    IF tandem.route('r', a::text, 'money') = 'new' THEN
	        UPDATE bank.account SET amount = amount + n / 100.0 WHERE id = a;
	    ELSE
	        UPDATE legacy.account SET cents = cents + n WHERE id = a;
	    END IF;
	    IF tandem.route('r', b::text, 'house') = 'new' THEN
	        UPDATE bank.branch SET amount = amount + n / 100.0 WHERE id = b;
	    ELSE
	        UPDATE legacy.branch SET cents = cents + n WHERE id = b;
	    END IF;
	    INSERT INTO work.counted VALUES (n);
	END $$;
	-- The law of sums, on each of four tables. Accounts from 2001 on are for damage, and nobody pays them.
	CREATE VIEW work.off AS
	SELECT t.name, t.cents - (SELECT coalesce(sum(c.cents), 0) FROM work.counted AS c) AS cents
	  FROM (SELECT 'legacy.account', sum(cents) FROM legacy.account WHERE id <= 2000 UNION ALL SELECT 'legacy.branch', sum(cents) FROM legacy.branch
	        UNION ALL SELECT 'bank.account', sum(amount) * 100 FROM bank.account WHERE id <= 2000 UNION ALL SELECT 'bank.branch', sum(amount) * 100 FROM bank.branch) AS t (name, cents);
	SELECT tandem.create_run('r', 'legacy', 'bank', hold => '1 hour', steps => '{50,100}');
	SELECT tandem.map_table('r', 'legacy.account', 'bank.account', forward => '{"amount": "cents / 100.0"}', reverse => '{"cents": "(amount * 100)::integer"}', domain => 'money');
	SELECT tandem.map_table('r', 'legacy.branch', 'bank.branch', forward => '{"amount": "cents / 100.0"}', reverse => '{"cents": "(amount * 100)::integer"}', domain => 'house');
	SELECT tandem.set_option('r', 'validate_every', '300 ms'), tandem.set_option('r', 'batch_size', '10');
	SQL

sub session { return $node->background_psql('postgres', on_error_stop => 0); }

# The run is live at 100 % again, equal on both sides.
sub live
{
	value($node, "UPDATE bank.account AS b SET amount = a.cents / 100.0 FROM legacy.account AS a WHERE a.id = b.id AND b.amount <> a.cents / 100.0");
	becomes($node, "NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending')", 'no proof is pending');
	value($node, "SELECT tandem.retry(run) FROM tandem.runs WHERE phase = 'degraded'");
	value($node, "SELECT tandem.resume(run) FROM tandem.runs WHERE phase = 'paused'");
	becomes($node, "differences = 0 AND validated_at > moved_at FROM tandem.runs", 'validated');
	value($node, "SELECT tandem.promote(run, 100) FROM tandem.runs WHERE weight < 100");
	is(state_of($node, 'r'), 'live progressing 100', 'live at 100 %');
	return;
}

# Rolls back; it must not wait for those who hold what they hold until after it.
sub prompt_rollback
{
	my ($why, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $proof = value($node, "SET statement_timeout = '30 s'; SELECT proof FROM tandem.rollback('r', '$why'" . ($opt{arguments} // '') . ')');
	like($proof, qr/^\d+$/, "rolled back at once: $why");
	is(value($node, "SELECT string_agg(DISTINCT tandem.route('r', i::text), ' ') FROM generate_series(1, 500) AS i"), 'legacy', 'legacy serves every key');
	return $proof;
}

sub proven
{
	my ($proof, $verdict) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "verdict <> 'pending' FROM tandem.rollback_proofs WHERE proof = $proof", 'the proof is made');
	is(value($node, "SELECT verdict FROM tandem.rollback_proofs WHERE proof = $proof"), $verdict, "... and $verdict");
	return;
}

sub events { return value($node, "SELECT string_agg(kind, ' ' ORDER BY seq) FROM tandem.events('r') WHERE seq > $_[0] AND kind NOT IN ('full_comparison', 'proof')"); }
sub last_event { return value($node, "SELECT coalesce(max(seq), 0) FROM tandem.event"); }

subtest 'in the middle of the backfill' => sub {
	value($node, "SELECT tandem.set_option('r', 'throttle_delay', '100 ms'), tandem.start('r')"); # 300 batches: it can't be through before we are
	becomes($node, "sum(rows_seen) > 20 FROM tandem.backfill_progress WHERE run = 'r'", 'it copies');
	prompt_rollback('during the backfill');
	is(state_of($node, 'r'), 'dualwrite degraded 0', 'the run stands where it is, degraded');
	value($node, "SELECT tandem.set_option('r', 'batch_size', '1000'), tandem.set_option('r', 'throttle_delay', '0'), tandem.retry('r')");
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'and goes on');
	becomes($node, "NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending')", 'proven');
};

foreach my $end ('COMMIT', 'ROLLBACK')
{
	subtest "while promote() holds the run in a transaction that stays open, to its $end" => sub {
		live();
		value($node, "SELECT tandem.rollback('r', 'to 50')");
		becomes($node, "NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending')", 'proven');
		value($node, "SELECT tandem.retry('r')");
		value($node, "SELECT tandem.promote('r', 50)");
		my $reader = session();
		$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM legacy.branch');
		like($reader->query("SELECT string_agg(DISTINCT tandem.route('r', i::text), ' ') FROM generate_series(1, 500) AS i"), qr/new/, 'keys are on new');
		my $holder = session();
		my $seen = last_event();
		$holder->query("BEGIN; SELECT tandem.promote('r', 100)");
		my $proof = prompt_rollback('while somebody promotes');
		is($reader->query("SELECT string_agg(DISTINCT tandem.route('r', i::text), ' ') FROM generate_series(1, 500) AS i"), 'legacy', '... also in transactions that are open');
		is(value($node, "SELECT weight FROM tandem.status('r')"), 0, 'the status says so');
		is(value($node, "SELECT string_agg(weight::text, ' ') FROM tandem.domains WHERE run = 'r'"), '0 0', 'view domains, too');
		like(value($node, "SELECT waiting_for FROM tandem.status('r')"), qr/^whoever holds the run/, '... and what it waits for');
		is(prompt_rollback('again'), $proof, 'a second one is answered with the first');
		is(value($node, 'SELECT entered FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1'), 'f', 'it is not entered');
		is(value($node, 'SELECT work.pay(7, 7, 3)'), '', 'an application writes');
		$holder->query($end);
		becomes($node, "phase = 'degraded' FROM tandem.runs", 'then it is entered, by the worker');
		is(state_of($node, 'r'), 'shadow degraded 0', 'the rollback has beaten the promotion');
		is(events($seen), ($end eq 'COMMIT' ? 'promote ' : '') . 'brake rollback_repeated rollback', 'each is on record');
		is(value($node, 'SELECT count(*) FROM tandem.brake'), 0, 'the brake is off');
		is(value($node, "SELECT p.epoch = s.epoch FROM tandem.rollback_proofs AS p, tandem.status('r') AS s WHERE proof = $proof"), 't', 'with its epoch');
		proven($proof, 'clean');
		$_->quit foreach ($reader, $holder);
	};
}

subtest 'a rollback that is not entered yet comes before any other verb' => sub {
	live();
	my $holder = session();
	$holder->query("BEGIN; SELECT tandem.pause('r')");
	my $proof = prompt_rollback('held');
	value($node, "ALTER SYSTEM SET tandem.naptime = '1 min'; SELECT pg_reload_conf()");
	my $second = session();
	$second->query_until(qr/sent/, "\\echo sent\n\\set VERBOSITY sqlstate\nSELECT tandem.promote('r', 100);\n");
	$holder->query('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/ERROR:  55000/, 'a promotion behind it is refused');
	value($node, "ALTER SYSTEM RESET tandem.naptime; SELECT pg_reload_conf()");
	becomes($node, "phase = 'degraded' FROM tandem.runs", 'it is entered');
	proven($proof, 'clean');
	$_->quit foreach ($holder, $second);
};

subtest 'while complete() is at it, it waits: there is no way back past it' => sub {
	live();
	my $holder = session();
	$holder->query("BEGIN; SELECT tandem.complete('r', 'r')");
	my $second = session();
	$second->query_until(qr/sent/, "\\echo sent\nSELECT tandem.rollback('r', 'too late?');\n");
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%too late%'", 'it waits');
	$holder->query('ROLLBACK');
	$second->query('SELECT 1');
	is(state_of($node, 'r'), 'shadow degraded 0', 'and is made when the completion is not');
	$_->quit foreach ($holder, $second);
};

subtest 'while a comparison is under way; of a run that is paused, or waits for approval; by who is on call' => sub {
	live();
	my $holder = session();
	$holder->query("BEGIN; SELECT count(*) FROM tandem.validate('r')");
	prompt_rollback('during a validation');
	is(state_of($node, 'r'), 'shadow degraded 0', 'entered at once');
	$holder->query('COMMIT');
	$holder->quit;

	live();
	value($node, "SELECT tandem.pause('r')");
	prompt_rollback('paused');
	is(state_of($node, 'r'), 'shadow degraded 0', 'a paused run');

	live();
	value($node, "UPDATE tandem.run SET phase = 'waiting_approval'");
	prompt_rollback('waits for approval');
	is(state_of($node, 'r'), 'shadow degraded 0', 'one that waits for approval');

	live();
	is($node->safe_psql('postgres', "SELECT epoch > 0 FROM tandem.rollback('r', 'the pager')", extra_params => [ '-U', 'night_shift' ]), 't', 'on call');
	is(state_of($node, 'r'), 'shadow degraded 0', 'may roll back');
	is(value($node, "SELECT role || ' ' || actor FROM tandem.events('r') WHERE kind = 'rollback' ORDER BY seq DESC LIMIT 1"), 'night_shift night_shift', 'and is named');
};

subtest 'ten at once are one' => sub {
	live();
	my $seen = last_event();
	my $epoch = value($node, 'SELECT epoch FROM tandem.run');
	my @sessions = map { session() } 1 .. 10;
	$_->query_until(qr/sent/, "\\echo sent\nSELECT proof FROM tandem.rollback('r', 'all at once');\n") foreach @sessions;
	$_->query('SELECT 1') foreach @sessions;
	becomes($node, "phase = 'degraded' FROM tandem.runs", 'rolled back');
	becomes($node, 'NOT EXISTS (SELECT FROM tandem.brake)', 'entered');
	is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE seq > $seen AND kind = 'rollback'"), 1, 'one rollback is on record');
	is(value($node, 'SELECT epoch FROM tandem.run'), $epoch + 1, 'the run was moved once');
	$_->quit foreach @sessions;
};

my @strategies = ('emergency', 'integrity', 'domain', 'complete');
push @strategies, @strategies unless $ENV{TANDEM_QUICK};
foreach my $strategy (@strategies)
{
	subtest "strategy $strategy under load, and the server is killed" => sub {
		live();
		my $damaged = $strategy eq 'emergency' ? 0 : 1 + int rand 150;
		my $traffic = traffic($node, 'the traffic', { pay => <<~'SQL' }, '--client=6', "--random-seed=$seed", '--rate=300');
			\set a random(1, 2000)
			\set b random(1, 20)
			\set n random(-500, 500)
			SELECT work.pay(:a, :b, :n);
			SQL
		my $counted = value($node, 'SELECT count(*) FROM work.counted');
		becomes($node, "count(*) > $counted + 50 FROM work.counted", 'clients pay');
		# Without the guard, which would be faster: the strategy is what is tested.
		value($node, "SELECT tandem.set_option('r', 'validate_every', '1 hour')");
		my $now = value($node, 'SELECT clock_timestamp()');
		becomes($node, "round_at > '$now' FROM tandem.runs", 'no validation is under way'); # a round that began after that makes none
		value($node, "BEGIN; SET LOCAL session_replication_role = replica; ALTER TABLE bank.account DISABLE TRIGGER USER; UPDATE bank.account SET amount = amount - 1 WHERE id BETWEEN 2001 AND 2000 + $damaged;"
			  . "ALTER TABLE bank.account ENABLE ALWAYS TRIGGER tandem_mirror_1; COMMIT") if $damaged;
		my ($out, $err) = ('', '');
		my $domain = $strategy eq 'domain' ? ", domain => 'money'" : '';
		my $delay = int rand 300;
		my $rollback = IPC::Run::start(
			[ $node->installed_command('psql'), '-XqAt', '-d', $node->connstr('postgres'), '-c', "SELECT proof FROM tandem.rollback('r', 'under load', strategy => '$strategy'$domain)" ],
			'<', \undef, '>', \$out, '2>', \$err);
		usleep(1000 * $delay);
		kill_postmaster($node);
		eval { $rollback->finish; };
		eval { $traffic->{run}->signal('INT'); $traffic->{run}->finish; };
		my $acknowledged = $out =~ /^(\d+)$/m ? $1 : 0;
		note("killed after $delay ms, $damaged rows damaged, rollback " . ($acknowledged ? 'acknowledged' : 'cut off'));
		my $state = value($node, 'SELECT concat_ws($$ $$, stage, phase, weight) FROM tandem.run');
		my $expected = $strategy eq 'domain' ? 'live degraded 100' : 'shadow degraded 0';
		if ($acknowledged)
		{
			is($state, $expected, 'what was acknowledged stands');
		}
		else
		{
			like($state, qr/^(?:live progressing 100|$expected)$/, 'made, or not: nothing between');
			value($node, "SELECT tandem.rollback('r', 'once more', strategy => '$strategy'$domain)") if $state ne $expected;
			is(state_of($node, 'r'), $expected, 'then made');
		}
		my $proof = value($node, 'SELECT max(proof) FROM tandem.rollback_proofs');
		proven($proof, $strategy eq 'integrity' || !$damaged ? 'clean' : 'unexplained');
		is(value($node, "SELECT count(*) FROM tandem.rollback_rows WHERE rollback = $proof AND state = 'repaired'"), $damaged, 'every damaged row was repaired, once') if $strategy eq 'integrity';
		is(value($node, "SELECT count(*) FROM tandem.rollback_rows WHERE rollback = $proof AND state = 'preserved' AND (new ->> 'amount')::numeric = (legacy ->> 'cents')::numeric / 100 - 1"), $damaged, 'every damaged row was preserved')
		  if $strategy eq 'complete';
		is(value($node, "SELECT string_agg(name || ' is off by ' || cents, ', ') FROM work.off WHERE cents <> 0"), '', 'no write is lost: all four sums are what was counted');
		is(value($node, "SELECT count(*) FROM legacy.account AS a JOIN bank.account AS b USING (id) WHERE b.amount <> a.cents / 100.0 AND id <= 2000"), 0, '... row by row');
		like(value($node, "SELECT tandem.rollback_report('r')"), qr/^# Rollback $proof of run r\n/, 'and there is a report');
		value($node, "SELECT tandem.set_option('r', 'validate_every', '300 ms')");
		value($node, "BEGIN; SET LOCAL session_replication_role = replica; ALTER TABLE bank.account DISABLE TRIGGER USER; UPDATE bank.account AS b SET amount = a.cents / 100.0 FROM legacy.account AS a WHERE a.id = b.id AND b.id > 2000;"
			  . "ALTER TABLE bank.account ENABLE ALWAYS TRIGGER tandem_mirror_1; COMMIT");
	};
}

subtest 'while a synchronous standby does not answer' => sub {
	live();
	value($node, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	value($node, 'SELECT pg_reload_conf()');
	{
		local $ENV{PGOPTIONS} = '-c synchronous_commit=local'; # the sessions of this test
		becomes($node, "current_setting('synchronous_standby_names') = 'nobody'", 'nobody commits that waits for a standby');
		value($node, "BEGIN; SET LOCAL session_replication_role = replica; ALTER TABLE bank.account DISABLE TRIGGER USER; UPDATE bank.account SET amount = amount - 1 WHERE id = 2001;"
			  . "ALTER TABLE bank.account ENABLE ALWAYS TRIGGER tandem_mirror_1; COMMIT");
		becomes($node, "phase = 'degraded' FROM tandem.runs", 'the worker rolls a wrong row back all the same');
		is(side_of($node, 'r', '1'), 'legacy', 'legacy serves');
		proven(value($node, 'SELECT max(proof) FROM tandem.rollback_proofs'), 'explained');
		value($node, 'ALTER SYSTEM RESET synchronous_standby_names');
		value($node, 'SELECT pg_reload_conf()');
		becomes($node, "current_setting('synchronous_standby_names') = ''", 'it is not asked any more');
	}
};

subtest 'past complete() there is none' => sub {
	live();
	value($node, "SELECT tandem.complete('r', 'r')");
	is(sqlstate($node, "SELECT tandem.rollback('r', 'too late')"), '55000', 'an error, not silence');
	is(side_of($node, 'r', '1'), 'new', 'new serves');
};

$node->stop;
done_testing();
