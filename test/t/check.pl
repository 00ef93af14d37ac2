# Checks with the worker: random numbers against an oracle in whole numbers; no false alarm while both sides are written; a query that ends its process; a
# verdict and its rollback in one transaction; dump and restore.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Math::BigInt;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\nmax_worker_processes = 24\n");
$node->start;
seed();
my $rounds = $ENV{TANDEM_QUICK} ? 2 : 6;

value($node, <<~'SQL');
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE ROLE keeper LOGIN;
	SELECT tandem.grant_role('keeper', 'operator');
	CREATE SCHEMA legacy AUTHORIZATION keeper;
	CREATE SCHEMA store AUTHORIZATION keeper;
	SET ROLE keeper;
	CREATE TABLE legacy.account (id integer PRIMARY KEY, branch integer, balance numeric);
	CREATE TABLE store.account (id bigint PRIMARY KEY, branch integer, balance numeric);
	INSERT INTO legacy.account SELECT i, i % 5, 100 FROM generate_series(1, 200) AS i;
	CREATE TABLE legacy.number (k integer, v numeric);
	CREATE TABLE store.number (k integer, v numeric);
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.account', 'store.account');
	SELECT tandem.set_option('r', 'validate_every', '200 ms');
	SELECT tandem.start('r');
	SQL
becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is under way');

# A number in millionths, as text that numeric reads exactly.
sub text_of
{
	my ($n) = @_;
	return $n if ref $n eq '';    # NULL, NaN, Infinity
	my $digits = $n->copy->babs->bstr;
	$digits = '0' x (7 - length $digits) . $digits if length $digits < 7;
	return ($n->is_neg ? '-' : '') . substr($digits, 0, -6) . '.' . substr($digits, -6);
}

sub random_number
{
	my $magnitude = int rand 16;
	return Math::BigInt->new((rand() < 0.2 ? '-' : '') . (1 + int rand 9) . join '', map { int rand 10 } 1 .. $magnitude);
}

# What a check is to say of two numbers in millionths and a tolerance in thousandths of a percent.
sub verdict
{
	my ($legacy, $new, $tolerance) = @_;
	return 'failed' if !defined $legacy || !defined $new;    # the group is missing on a side
	my ($l, $n) = map { ref $_ ne '' } $legacy, $new;
	return $l || $n ? 'failed' : 'unknown' if !$l || !$n;
	my $difference = ($new - $legacy)->babs;
	return $difference * 100 * 1000 <= $legacy->copy->babs * $tolerance ? 'passed' : 'failed';
}

subtest 'as an oracle says' => sub {
	foreach my $round (1 .. $rounds)
	{
		my $tolerance = (0, 100, 500, 2000, 5000, 1, 123_456)[ int rand 7 ];    # 0 %, 0.1 %, 0.5 %, 2 %, 5 %, ...
		my (@rows, %want);
		foreach my $k (1 .. 400)
		{
			my $legacy = rand() < 0.1 ? Math::BigInt->new(0) : random_number();
			my $edge = $legacy->copy->babs * $tolerance / 100_000;               # as far as is tolerated, rounded down
			my $new =
			    rand() < 0.2 ? $legacy->copy
			  : rand() < 0.8 ? $legacy + (rand() < 0.5 ? -1 : 1) * ($edge + int(rand 5) - 2)
			  :                random_number();
			$legacy = ('NULL', 'NaN', 'Infinity', '-Infinity')[ int rand 4 ] if rand() < 0.03;
			$new    = ('NULL', 'NaN', 'Infinity', '-Infinity')[ int rand 4 ] if rand() < 0.03;
			undef $legacy if rand() < 0.02;
			undef $new    if rand() < 0.02;
			next          if !defined $legacy && !defined $new;
			$want{$k} = verdict($legacy, $new, $tolerance);
			push @rows, "INSERT INTO legacy.number VALUES ($k, " . quoted($legacy) . ');' if defined $legacy;
			push @rows, "INSERT INTO store.number VALUES ($k, " . quoted($new) . ');'     if defined $new;
		}
		my $percent = $tolerance / 1000;
		value($node, join "\n", 'BEGIN; SET LOCAL ROLE keeper; TRUNCATE legacy.number, store.number;', @rows, <<~SQL);
			SELECT tandem.add_check('r', 'oracle', 'SELECT k, v FROM legacy.number', 'SELECT k, v FROM store.number', $percent, every => '1 year');
			COMMIT;
			SQL
		my %have = map { split /\|/ } split /\n/, value($node, "SELECT group_key ->> 'k', status FROM tandem.reconcile('r', 'oracle')");
		is_deeply(\%have, \%want, sprintf 'round %d: %d groups, %s %%: %d failed', $round, scalar keys %want, $percent, scalar grep { $_ eq 'failed' } values %want);

		# The same numbers one by one: any of them alone must give the same verdict
		my $k = (sort { $a <=> $b } keys %want)[ int rand keys %want ];
		value($node, "SET ROLE keeper; SELECT tandem.drop_check('r', 'oracle');
			SELECT tandem.add_check('r', 'oracle', 'SELECT v FROM legacy.number WHERE k = $k', 'SELECT v FROM store.number WHERE k = $k', $percent, every => '1 year')");
		is(value($node, "SELECT status FROM tandem.reconcile('r', 'oracle')"), $want{$k}, "... group $k alone");
		value($node, "SET ROLE keeper; SELECT tandem.drop_check('r', 'oracle')");
	}
};

sub quoted
{
	my ($value) = @_;
	my $text = text_of($value);
	return $text eq 'NULL' ? 'NULL' : "'$text'";
}

subtest 'no false alarm under traffic' => sub {
	value($node, <<~'SQL');
		SET ROLE keeper;
		SELECT tandem.add_check('r', 'rows', 'SELECT count(*) FROM legacy.account', 'SELECT count(*) FROM store.account', severity => 'critical', on_fail => 'rollback', every => '0'),
		       tandem.add_check('r', 'total', 'SELECT sum(balance) FROM legacy.account', 'SELECT sum(balance) FROM store.account', severity => 'critical', on_fail => 'rollback', every => '0'),
		       tandem.add_check('r', 'branches', 'SELECT branch, avg(balance) FROM legacy.account GROUP BY 1', 'SELECT branch, avg(balance) FROM store.account GROUP BY 1', on_fail => 'pause', every => '0');
		SQL
	my $traffic = traffic($node, 'writers',
		{   'change' => "\\set id random(1, 200)\nUPDATE legacy.account SET balance = balance + random() * 10 WHERE id = :id;\n",
			'birth' => "\\set id random(201, 400)\nINSERT INTO legacy.account VALUES (:id, :id % 5, 50) ON CONFLICT DO NOTHING;\n",
			'death' => "\\set id random(201, 400)\nDELETE FROM store.account WHERE id = :id;\n" },
		'--client=4', '--jobs=2');
	my $began = time;
	my $evaluations = q{SELECT sum(evaluations) FROM tandem.checks};
	do { value($node, q{SELECT count(*) FROM tandem.reconcile('r')}) } while (time < $began + ($ENV{TANDEM_QUICK} ? 2 : 4) || (value($node, $evaluations) <= 30 && time < $began + 100));
	finish_traffic($traffic, 100);
	is(state_of($node, 'r'), 'shadow progressing 0', 'nothing was paused or rolled back');
	my ($made, $failed) = split /\|/, value($node, q{SELECT sum(evaluations), (SELECT count(*) FROM tandem.check_results WHERE NOT passed AND name <> 'oracle') FROM tandem.checks});
	ok($made > 30, "$made checks were made");
	is($failed, 0, 'and all passed');
};

subtest 'a check that fails rolls back, by the worker' => sub {
	value($node, q{SELECT tandem.promote('r')});
	# Not by the guard: a round that began after that validates no more.
	value($node, q{SELECT tandem.set_option('r', 'validate_every', '1 hour')});
	my $now = value($node, 'SELECT clock_timestamp()');
	becomes($node, "round_at > '$now' FROM tandem.runs", 'a round later');
	value($node, <<~'SQL');
		BEGIN;
		ALTER TABLE store.account DISABLE TRIGGER USER;
		UPDATE store.account SET balance = balance + 1 WHERE id = 1;
		ALTER TABLE store.account ENABLE TRIGGER USER;
		COMMIT;
		SQL
	becomes($node, "stage || phase || weight = 'shadowdegraded0' FROM tandem.runs", 'rolled back');
	is(value($node, q{SELECT count(*), min(reason) ~ '^check total: ', bool_and(automatic) FROM tandem.rollback}), '1|t|t', 'once, and says why');
	is(value($node, q{SELECT count(*) FROM tandem.rollback AS b JOIN tandem.event AS f ON f.kind = 'check_failed' AND f.evidence ->> 'check' = 'total'
	                    JOIN tandem.event AS e ON e.kind = 'rollback' WHERE f.xmin::text = e.xmin::text}), 1, 'in the transaction of the verdict');
	becomes($node, q{count(*) = 1 FROM tandem.alerts WHERE rule = 'check total fails' AND status = 'firing'}, 'an alert fires');
};

subtest 'a query that ends its process' => sub {
	value($node, <<~'SQL');
		SET ROLE keeper;
		CREATE FUNCTION legacy.stays() RETURNS integer LANGUAGE plpgsql STABLE AS $$
		BEGIN LOOP BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
		SELECT tandem.drop_check('r', name) FROM tandem.checks;
		SELECT tandem.set_option('r', 'check_timeout', '10 ms');
		SELECT tandem.add_check('r', 'stays', 'SELECT legacy.stays()', 'SELECT 1', every => '1 hour'), tandem.add_check('r', 'well', 'SELECT 1', 'SELECT 1', every => '0');
		SQL
	becomes($node, q{reason LIKE 'the process that asked its queries has ended%' FROM tandem.checks WHERE name = 'stays'}, 'it is known which it was');
	my $made = value($node, q{SELECT evaluations FROM tandem.checks WHERE name = 'well'});
	becomes($node, "evaluations > $made + 2 FROM tandem.checks WHERE name = 'well'", 'the others have their turn');
	value($node, q{SELECT tandem.drop_check('r', 'stays'), tandem.set_option('r', 'check_timeout', '10 s')}); # 10 ms may be too short for any query
	my $now = value($node, 'SELECT clock_timestamp()');
	becomes($node, "status = 'passed' AND checked_at > '$now' FROM tandem.checks WHERE name = 'well'", 'and pass');
};

subtest 'dump and restore' => sub {
	value($node, q{SELECT tandem.set_option('r', 'reconcile_at', '04:00')});
	my ($dump, $count) = (PostgreSQL::Test::Utils::tempdir('dump') . '/all', value($node, 'SELECT count(*) FROM tandem.check_results'));
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
	value($node, 'CREATE DATABASE restored');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'restored');
	local $RunHelpers::database = 'restored';
	is(value($node, q{SELECT name, legacy_sql, status FROM tandem.checks}), 'well|SELECT 1|passed', 'checks are carried');
	cmp_ok(value($node, 'SELECT count(*) FROM tandem.check_results'), '>=', $count, '... and what they found');
	my $made = value($node, 'SELECT evaluations FROM tandem.checks');
	sleep 1.5;
	is(value($node, 'SELECT evaluations FROM tandem.checks'), $made, 'nobody asked for them in the copy');
};

$node->stop;
done_testing();
