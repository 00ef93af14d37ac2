# Dirty keys at random: a new side that refuses some rows, by checks that come and go and by a foreign key, while clients insert, update, delete and
# change keys in legacy, and while the server crashes. No client fails, the run is not rolled back, and when the new side refuses nothing any more,
# both sides come to be equal by themselves.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $seconds = $ENV{TANDEM_QUICK} ? 4 : 10;
my $node = tandem_node('dirty', preload => 1, conf => "restart_after_crash = on\ntandem.naptime = '100ms'\ndeadlock_timeout = '50ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.parent (id integer PRIMARY KEY, v integer);
	CREATE TABLE store.parent (id bigint PRIMARY KEY, v bigint);
	CREATE TABLE legacy.child (id integer PRIMARY KEY, grp text NOT NULL, parent integer REFERENCES legacy.parent ON UPDATE CASCADE ON DELETE CASCADE);
	CREATE TABLE store.child (key text PRIMARY KEY, parent bigint REFERENCES store.parent ON UPDATE CASCADE ON DELETE CASCADE);
	INSERT INTO legacy.parent SELECT i, i % 10 FROM generate_series(1, 200) AS i;
	INSERT INTO legacy.child SELECT i, 'g', 1 + i % 200 FROM generate_series(1, 400) AS i;
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.parent', 'store.parent');
	SELECT tandem.map_table('r', 'legacy.child', 'store.child', forward => '{"key": "grp || ''-'' || id"}', reverse => '{"grp": "split_part(key, ''-'', 1)", "id": "split_part(key, ''-'', 2)::integer"}');
	SELECT tandem.set_option('r', 'validate_every', '200 ms'), tandem.set_option('r', 'dirty_backoff', '50 ms'), tandem.set_option('r', 'dirty_backoff_max', '400 ms'),
	       tandem.set_option('r', 'dirty_attempts', '1000');
	SELECT tandem.start('r');
	SQL
becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is in shadow');

my %scripts = (
	'update@4' => "\\set id random(1, 260)\n\\set v random(0, 12)\nUPDATE legacy.parent SET v = :v WHERE id = :id;\n",
	'insert@2' => "\\set id random(1, 260)\n\\set v random(0, 12)\nINSERT INTO legacy.parent VALUES (:id, :v) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;\n",
	'child@3' => "\\set id random(1, 500)\n\\set p random(1, 260)\nINSERT INTO legacy.child SELECT :id, 'g', p.id FROM legacy.parent AS p WHERE p.id = :p ON CONFLICT (id) DO UPDATE SET parent = EXCLUDED.parent;\n",
	'regroup@2' => "\\set id random(1, 500)\n\\set g random(1, 5)\nUPDATE legacy.child SET grp = 'g' || :g WHERE id = :id;\n",
	'delete@1' => "\\set id random(1, 260)\nDELETE FROM legacy.parent WHERE id = :id;\n",
	'rekey@1' => "\\set id random(1, 260)\n\\set to random(1, 260)\nUPDATE legacy.parent SET id = :to WHERE id = :id AND NOT EXISTS (SELECT FROM legacy.parent WHERE id = :to);\n",
);
# one client: a key that is changed to one that another has just taken is an error of legacy's own
my $traffic = traffic($node, 'the traffic', \%scripts, '--client=1', "--random-seed=$seed");
my $end = time() + $seconds;
my $crashes = 0;
my $refused = 0;
my $seen = 0; # by a validation
while (time() < $end || (($refused <= 20 || $seen == 0) && time() < $end + 100))
{
	my $limit = 3 + int rand 8;
	value($node, "ALTER TABLE store.parent DROP CONSTRAINT IF EXISTS modest; ALTER TABLE store.parent ADD CONSTRAINT modest CHECK (v < $limit) NOT VALID");
	usleep(1000 * (100 + int rand 400));
	value($node, 'ALTER TABLE store.parent DROP CONSTRAINT modest') if rand() < 0.3;
	if (rand() < 0.15 && value($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'") == 1)
	{
		value($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'");
		$crashes++;
	}
	($refused, $seen) = split /\|/, value($node, 'SELECT (SELECT count(*) FROM tandem.mirror_failures), (SELECT count(*) FROM tandem.comparisons WHERE NOT equal)');
}
my $done = finish_traffic($traffic);
note("about $done transactions; the executor was ended $crashes times");
cmp_ok($refused, '>', 20, "$refused writes were refused");
cmp_ok($seen, '>', 0, 'validations saw them');
is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind = 'rollback'"), 0, 'and rolled nothing back');
is(value($node, "SELECT string_agg(DISTINCT reason, ', ') FROM tandem.events('r') WHERE kind = 'round_failed'"), '', 'no round failed');
value($node, 'ALTER TABLE store.parent DROP CONSTRAINT IF EXISTS modest');
becomes($node, "NOT EXISTS (SELECT FROM tandem.dirty_keys)", 'when new refuses nothing any more, every key becomes clean by itself');
is(value($node, "SELECT count(*) FROM tandem.diff('legacy.parent', 'store.parent')"), 0, 'parents are equal');
is(value($node, "SELECT count(*) FROM tandem.diff('legacy.child', 'store.child', columns => '{\"key\": \"grp || ''-'' || id\"}')"), 0, 'children are equal');
becomes($node, "differences = 0 AND phase = 'progressing' FROM tandem.runs", 'and a validation says so');
is(sqlstate($node, "SELECT tandem.promote('r')"), '', 'so that the run can go on');

$node->stop;
done_testing();
