# Channel tandem_run: every event of a run is heard by whoever LISTENs, as it is kept, in the order of the commits; of a transaction that is rolled back, nothing is.
# Every verb is said once. No worker: tick() makes the moves that are the machine's.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $node = tandem_node('notify', preload => 0);
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, qty integer);
	CREATE TABLE store.item (id bigint PRIMARY KEY, qty bigint);
	INSERT INTO legacy.item SELECT i, i FROM generate_series(1, 50) AS i;
	CREATE ROLE signer; CREATE ROLE asker;
	SELECT tandem.grant_role('signer', 'approver'), tandem.grant_role('asker', 'operator');
	SQL
my $listener = $node->background_psql('postgres');
$listener->query('LISTEN tandem_run');
my $first = value($node, 'SELECT coalesce(max(seq), 0) FROM tandem.event');

sub create
{
	my ($run) = @_;
	value($node, "SELECT tandem.create_run('$run', 'legacy', 'store', steps => '{50,100}', hold => '1 hour');
		SELECT tandem.map_table('$run', 'legacy.item', 'store.item');
		SELECT tandem.set_option('$run', 'validate_every', '1 hour')");
	value($node, "SELECT tandem.set_option('$run', 'retention', '1 ms')"); # PostgreSQL sends messages of a transaction that are equal once
	return;
}

sub ticks_until
{
	my ($condition) = @_;
	for (1 .. 500)
	{
		return if value($node, "SELECT $condition FROM tandem.runs") eq 't';
		value($node, 'SELECT tandem.tick()');
	}
	die "never: $condition";
}

create('r');
value($node, "SET ROLE asker; SELECT tandem.add_gate('r', 'end', 'complete')");
my $preflight = value($node, <<~'SQL');
	WITH p AS MATERIALIZED (SELECT * FROM tandem.preflight('r'))
	SELECT jsonb_build_object('ok', count(*) FILTER (WHERE status = 'OK'), 'not_ok', (SELECT jsonb_agg(to_jsonb(x) ORDER BY x."check") FROM (SELECT check_name AS "check", status, count(*) AS n FROM p AS q WHERE status <> 'OK' GROUP BY 1, 2) AS x)) FROM p
	SQL
like($preflight, qr/"status": "WARNING"/, 'a preflight that warns: there is no worker');
value($node, "SELECT tandem.start('r')");
ticks_until("stage = 'shadow'");
value($node, "SELECT tandem.promote('r', reason => 'early, \"as agreed\"')");
value($node, "SELECT tandem.pause('r', 'lunch')");
value($node, "SELECT tandem.resume('r')");
value($node, "SELECT tandem.rollback('r', 'it is slow')");
ticks_until("NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending')");
value($node, "SELECT tandem.retry('r')");

# Nothing of this is heard. Of each verb that is legal there, and of two that follow one another.
foreach my $said ("promote('r', reason => 'not done')", "pause('r', 'not done')", "rollback('r', 'not done')", "cancel('r', 'not done')",
	"promote('r', 100, 'not done'); SELECT FROM tandem.rollback('r', 'not done')")
{
	is(value($node, "BEGIN; SELECT FROM tandem.$said; SELECT count(*) > 0 FROM tandem.event WHERE reason = 'not done'; ROLLBACK"), 't', "said, and taken back: $said");
}
value($node, "SELECT tandem.promote('r', 100)");
value($node, "SELECT tandem.complete('r', 'r')");
is(state_of($node, 'r'), 'rampdown progressing 100', 'rampdown');
ticks_until("phase = 'waiting_approval'");
value($node, "SET ROLE signer; SELECT tandem.sign_off('r', 'end', 'go')");
value($node, "SELECT tandem.complete('r', 'r')");
create('over');
value($node, "TRUNCATE store.item; SELECT tandem.set_domain('over', 'default', false); SELECT tandem.start('over')");
value($node, "UPDATE tandem.run SET home = 'elsewhere' WHERE name = 'over'; SELECT tandem.tick()"); # as in a copy of the database
is(state_of($node, 'over'), 'dualwrite paused 0', 'restored');
value($node, "SELECT tandem.cancel('over', 'the last one')");
is(value($node, 'SELECT string_agg(run || $$ $$ || phase, $$, $$ ORDER BY run) FROM tandem.runs'), 'over cancelled, r succeeded', 'every verb was said');

# What commits later is heard later: with the last, all are there.
my $text = '';
for (1 .. 10 * $ENV{PG_TEST_TIMEOUT_DEFAULT})
{
	$text .= $listener->query('SELECT 1') . "\n";
	last if $text =~ /"the last one"/;
	usleep(100_000);
}
$listener->quit;
my @heard = $text =~ /^Asynchronous notification "tandem_run" with payload "(\{.*\})" received from server process with PID \d+\.$/mg;
cmp_ok(scalar @heard, '>', 15, scalar(@heard) . ' messages');
is((grep { /not done/ } @heard), 0, 'none is of a transaction that was rolled back');
my $kept = value($node, "SELECT jsonb_build_object('run', run, 'event', kind, 'stage', stage, 'phase', phase, 'weight', weight, 'epoch', epoch, 'reason', reason) FROM tandem.event WHERE seq > $first AND run IS NOT NULL ORDER BY seq");
is(join("\n", @heard), $kept, 'message by message: the events, in their order');
is(value($node, "SELECT string_agg(DISTINCT l.verb, ' ' ORDER BY l.verb) FROM tandem.run_law() AS l WHERE NOT EXISTS (SELECT FROM tandem.event AS e WHERE e.kind = CASE l.verb WHEN 'rollback_domain' THEN 'rollback' ELSE l.verb END)"), '', 'every verb of the law is among them');
is(value($node, "SELECT string_agg(concat_ws(' ', run, kind), ', ' ORDER BY seq) FROM tandem.event WHERE kind IN (SELECT verb FROM tandem.run_law()) AND (evidence = '{}' OR lsn IS NULL)"), '', '... each with evidence, and a place in the log');
is(value($node, "SELECT count(*) FROM (SELECT epoch - lag(epoch) OVER (PARTITION BY run ORDER BY seq) AS step FROM tandem.event WHERE kind IN (SELECT verb FROM tandem.run_law())) AS x WHERE step <> 1"), 0, '... and an epoch of its own');
is(value($node, "SELECT string_agg(kind, ' ' ORDER BY seq) FROM tandem.event WHERE kind IN (SELECT verb FROM tandem.run_law()) AND run = 'r'"),
	'start synced promote pause resume rollback retry promote rampdown await approve complete', '... of this run');
my $retry = "(SELECT evidence FROM tandem.event WHERE kind = 'retry')";
is(value($node, "SELECT count(*) FILTER (WHERE c.purpose = 'proof' AND c.equal) || ' ' || count(*) FROM tandem.comparison AS c WHERE c.id IN (SELECT x::bigint FROM jsonb_array_elements_text($retry -> 'comparisons') AS x)"), '1 1', 'retry() names the comparison that it rests on');
is(value($node, "SELECT $retry - 'comparisons' - 'validated_at'"),
	'{"extra": 0, "errors": 0, "changed": 0, "missing": 0, "accepted": 0, "new_rows": 50, "decisions": [], "duplicates": 0, "from_phase": "degraded", "from_stage": "shadow", "differences": 0, "from_weight": 0, "legacy_rows": 50}', '... and what it found');
is(value($node, "SELECT evidence - 'validated_at' FROM tandem.event WHERE kind = 'pause'"), '{"from_phase": "progressing", "from_stage": "live", "differences": 0, "from_weight": 50}', 'pause(): where the run stood');
is(value($node, "SELECT evidence -> 'preflight' FROM tandem.event WHERE kind = 'start' AND run = 'r'"), $preflight, 'start(): what its preflight found');
$node->stop;
done_testing();
