# A day in a minute: the rehearsal of template 24-hour under pgbench that writes legacy, and soon both sides, from create_run() to complete(), validated without a
# pause. No write is lost, nothing is rolled back, and the worker's processes do not grow.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $scale = $ENV{TANDEM_QUICK} ? 8640 : 2160;    # 24 hours in 10, in 40 seconds
my $accounts = 200;
my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\nmax_worker_processes = 16\nshared_buffers = 128MB\n");
$node->start;
value($node, <<~SQL);
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy; CREATE SCHEMA bank;
	CREATE TABLE legacy.account (id integer PRIMARY KEY, balance integer NOT NULL);
	CREATE TABLE bank.account (id bigint PRIMARY KEY, balance bigint NOT NULL);
	CREATE TABLE legacy.booking (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account integer, amount integer);
	CREATE TABLE bank.booking (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account bigint, amount bigint);
	INSERT INTO legacy.account SELECT i, 1000 FROM generate_series(1, $accounts) AS i;
	SELECT tandem.create_run('day', 'legacy', 'bank', template => 'rehearsal');
	SELECT tandem.map_table('day', 'legacy.account', 'bank.account'), tandem.map_table('day', 'legacy.booking', 'bank.booking');
	SELECT tandem.set_option('day', 'time_scale', '$scale');
	SELECT tandem.add_check('day', 'money', 'SELECT sum(balance) FROM legacy.account', 'SELECT sum(balance) FROM bank.account', severity => 'critical', on_fail => 'rollback', every => '1 hour'),
	       tandem.add_check('day', 'bookings', 'SELECT count(*), 0 FROM legacy.booking', 'SELECT count(*), 0 FROM bank.booking', severity => 'critical', on_fail => 'rollback', every => '1 hour');
	SQL

# A transfer is two accounts and two bookings, in one transaction, on one side or the other.
my %scripts = map {
	$_ => <<~SQL
		\\set one random(1, $accounts)
		\\set other random(1, $accounts)
		\\set amount random(1, 100)
		BEGIN;
		UPDATE $_.account SET balance = balance - :amount WHERE id = :one;
		INSERT INTO $_.booking (account, amount) VALUES (:one, -:amount);
		UPDATE $_.account SET balance = balance + :amount WHERE id = :other;
		INSERT INTO $_.booking (account, amount) VALUES (:other, :amount);
		COMMIT;
		SQL
} qw(legacy bank);

# Memory of the worker's processes that is theirs alone, in kB. RSS counts the shared buffers that a process has touched, too.
sub memory
{
	my %memory;
	foreach my $line (split /\n/, value($node, q{SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' ORDER BY 2}))
	{
		my ($pid, $type) = split /\|/, $line;
		open my $status, '<', "/proc/$pid/status" or next;
		my $text = do { local $/; <$status> };
		$memory{"$type $pid"} = $1 if $text =~ /^RssAnon:\s+(\d+) kB/m;
	}
	return \%memory;
}

my $began = time;
my $traffic = traffic($node, 'transfers', { legacy => $scripts{legacy} }, '--client=2', '--rate=100');
value($node, q{SELECT tandem.start('day')});
becomes($node, "stage = 'shadow' FROM tandem.runs", 'both sides are in step under traffic');
my $new_traffic = traffic($node, 'transfers of the new application', { bank => $scripts{bank} }, '--client=2', '--rate=100');
becomes($node, 'weight >= 5 FROM tandem.runs', 'the first keys are on the new side');
my $first = memory();
# By then each process has done everything that it does once, and knows the tables: on a slow machine that takes it longer than to the first step.
becomes($node, 'weight >= 50 FROM tandem.runs', 'half of them');
my $before = memory();
becomes($node, 'weight = 100 FROM tandem.runs', 'all keys are, by the worker alone');
value($node, q{SELECT tandem.complete('day', 'day')});
is(state_of($node, 'day'), 'rampdown progressing 100', 'the way back stays open for a while');
like(sqlstate($node, q{SELECT tandem.complete('day', 'day')}), qr/^(?:55000)?$/, '... for as long as retention says, compressed');
becomes($node, q{NOT EXISTS (SELECT FROM tandem.promotion_blockers((SELECT r FROM tandem.run AS r WHERE r.name = 'day'), 'complete', 100))}, 'nothing stands in the way of the end');
my $after = memory();
my $transactions = finish_traffic($traffic) + finish_traffic($new_traffic);
value($node, q{SELECT tandem.complete('day', 'day')}) if state_of($node, 'day') !~ /^complete/;
my $took = time - $began;
is(state_of($node, 'day'), 'complete succeeded 100', 'complete');
diag(sprintf '24 hours in %.1f s', $took);

# --- the law of sums
my ($rows, $money, $wrong) = split /\|/, value($node, <<~SQL);
	SELECT (SELECT count(*) FROM bank.booking), (SELECT sum(balance) FROM bank.account),
	       (SELECT count(*) FROM bank.account AS a WHERE a.balance <> 1000 + coalesce((SELECT sum(b.amount) FROM bank.booking AS b WHERE b.account = a.id), 0))
	SQL
is($money, 1000 * $accounts, 'no money was lost or made');
is($wrong, 0, 'every account is the sum of its bookings');
cmp_ok($rows, '>', 2 * $transactions * 0.9, "$rows bookings of about $transactions transfers");
is(value($node, 'SELECT count(*) FROM tandem.diff(\'legacy.account\', \'bank.account\')') + value($node, 'SELECT count(*) FROM tandem.diff(\'legacy.booking\', \'bank.booking\')'), 0, 'both sides are equal, row by row');

# --- nothing was rolled back, and it was looked at all the time
is(value($node, 'SELECT count(*) FROM tandem.rollback'), 0, 'no false rollback');
is(value($node, q{SELECT string_agg(weight::text, ',' ORDER BY seq) FROM tandem.events('day') WHERE kind = 'promote'}), '5,25,50,75,100', 'step by step');
my ($validations, $checks) = split /\|/, value($node, q{SELECT count(DISTINCT started_at), (SELECT sum(evaluations) FROM tandem.checks) FROM tandem.comparisons WHERE purpose = 'validate'});
cmp_ok($validations, '>', 5, sprintf '%d validations, %.0f a second', $validations, $validations / $took); # one for each step at least
cmp_ok($checks, '>=', 4, "$checks checks, all of which passed");
is(value($node, 'SELECT count(*) FROM tandem.check_results WHERE NOT passed'), 0, '... all of them');

# --- memory
my @same = grep { exists $after->{$_} } sort keys %$before;
ok(@same > 1, 'the same processes from half of the keys to the end: ' . join ', ', @same);
foreach my $process (@same)
{
	my $grown = $after->{$process} - $before->{$process};
	cmp_ok($grown, '<', 4096, "$process: $before->{$process} kB of its own at half of the keys, $after->{$process} kB at the end");
	diag("$process: " . ($first->{$process} // 0) . " kB, then $before->{$process} kB, then $after->{$process} kB");
}
like(value($node, q{SELECT tandem.retrospective('day')}), qr/Complete after .*: never rolled back/, 'the retrospective says so');

$node->stop;
done_testing();
