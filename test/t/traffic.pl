# Traffic at random: six clients write on both sides, by route() or where they please, while the run is moved at random. Whatever
# happens, both sides end equal, no write is lost, and no comparison ever sees a difference.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();
my $seconds = $ENV{TANDEM_RANDOM_SECONDS} // 15;

# Every script works on a side that is chosen as it runs (traffic/setup.sql): its tables and columns stand in variables. :n * :unit is an
# amount of money, for cents are compared with whole amounts; :k and :k2 are accounts, :c a counter, :o an order.
sub script
{
	my ($sql, $begin) = @_;
	return <<~'HEAD' . ($begin // 'BEGIN') . ";\nSELECT * FROM work.choose(:k, :pick) \\gset\n${sql}COMMIT;\n";
		\set pick random(1, 4)
		\set k random(1, 1000)
		\set k2 random(1, 1000)
		\set c 2000 + random(1, 8)
		\set o random(1, 300)
		\set n random(1, 50)
		HEAD
}

# Where the new side has no such row as yet, nothing is counted.
my $count = <<~'SQL';
	WITH u AS (UPDATE :account SET :balance = :balance + :unit WHERE :id = :c RETURNING 1) INSERT INTO work.counted SELECT :c FROM u;
	SQL

my %scripts = (
	'count@4' => script($count),
	'count_repeatable_read@2' => script($count, 'BEGIN ISOLATION LEVEL REPEATABLE READ'),
	# Holds the row of one side for a while: who writes it on the other side deadlocks in his mirror, or makes this one do so.
	'lock_and_count@3' => script(<<~'SQL' . $count),
		SELECT FROM :account WHERE :id = :c FOR UPDATE;
		\sleep 3 ms
		SQL
	'change@5' => script(<<~'SQL'),
		UPDATE :account SET :balance = :balance + :n * :unit WHERE :id = :k;
		SQL
	'add_and_remove@4' => script(<<~'SQL'),
		SELECT work.unless_taken('INSERT INTO :account VALUES (:k, ''added'', :n * :unit)');
		DELETE FROM :account WHERE :id = :k2;
		SQL
	'upsert@2' => script(<<~'SQL'),
		INSERT INTO :account VALUES (:k, 'upserted', :n * :unit), (1000 + :k2, 'upserted', :n * :unit)
		    ON CONFLICT (:id) DO UPDATE SET :owner = EXCLUDED.:owner, :balance = EXCLUDED.:balance;
		SQL
	'other_key@3' => script(<<~'SQL'),
		SELECT work.unless_taken('UPDATE :account SET :id = :k2 WHERE :id = :k');
		SQL
	'swap_keys@1' => script(<<~'SQL'),
		DELETE FROM :account WHERE :id = :k;
		SELECT work.unless_taken('UPDATE :account SET :id = :k WHERE :id = :k2');
		SELECT work.unless_taken('INSERT INTO :account VALUES (:k2, ''swapped'', :n * :unit)');
		SQL
	'many_rows@1' => script(<<~'SQL'),
		UPDATE :account SET :balance = :n * :unit WHERE :id BETWEEN :k AND :k + 20;
		DELETE FROM :account WHERE :id BETWEEN :k2 AND :k2 + 3;
		SQL
	'savepoints@2' => script(<<~'SQL'),
		UPDATE :account SET :owner = 'kept' WHERE :id = :k;
		SAVEPOINT s;
		DELETE FROM :account WHERE :id IN (:k, :k2);
		ROLLBACK TO s;
		UPDATE :account SET :balance = :n * :unit WHERE :id = :k2;
		SAVEPOINT s;
		UPDATE :account SET :owner = 'kept too' WHERE :id = :k2;
		RELEASE s;
		SQL
	'undone@1' => script(<<~'SQL'),
		UPDATE :account SET :owner = 'undone' WHERE :id = :k;
		DELETE FROM :account WHERE :id = :k2;
		ROLLBACK;
		BEGIN;
		SQL
	'copy@1' => script(<<~'SQL'),
		\set file random(1, 20)
		SELECT work.unless_taken('COPY :account FROM ''FOLDER/:file''');
		SQL
	'truncate@1' => script(<<~'SQL'),
		SELECT work.truncate_is_refused(':account'), work.truncate_is_refused(':line');
		SQL
	'order_with_lines@3' => script(<<~'SQL'),
		DELETE FROM :orders WHERE :order_key = :o;
		SELECT work.unless_taken('INSERT INTO :orders VALUES (:o, ''new'')');
		INSERT INTO :line VALUES (:o, 1, :n), (:o, 3, :n) ON CONFLICT DO NOTHING;
		SQL
	'lines@3' => script(<<~'SQL'),
		UPDATE :line SET :qty = :n WHERE :order_id = :o;
		SELECT work.unless_taken('UPDATE :line SET :pos = :pos + 1 WHERE :order_id = :o AND :pos = 3');
		DELETE FROM :line WHERE :order_id = :o AND :pos > 5;
		SQL
	'repeatable_read@3' => script(<<~'SQL', 'BEGIN ISOLATION LEVEL REPEATABLE READ'),
		SELECT count(*) FROM :account;
		UPDATE :account SET :balance = :n * :unit WHERE :id = :k;
		DELETE FROM :account WHERE :id = :k2;
		DELETE FROM :line WHERE :order_id = :o AND :pos = 2;
		SQL
	'serializable@1' => script(<<~'SQL', 'BEGIN ISOLATION LEVEL SERIALIZABLE'),
		SELECT count(*) FROM :account WHERE :id < :k;
		UPDATE :account SET :balance = :n * :unit WHERE :id = :k2;
		SQL
);

my @verbs = (
	("SELECT tandem.promote('r')") x 5,
	"SELECT tandem.pause('r')",
	("SELECT tandem.resume('r')") x 3,
	"SELECT tandem.rollback('r', 'at random')",
	("SELECT tandem.retry('r')") x 3,
	"SELECT tandem.validate('r')",
	'SELECT tandem.tick()',
	'ANALYZE',
	"SELECT tandem.set_option('r', 'batch_size', '11')");

# For COPY: a few rows for either side, whole amounts also in cents.
my $folder = PostgreSQL::Test::Utils::tempdir('copies');
foreach my $file (1 .. 20)
{
	my %keys = map { 1 + int rand 1000 => 1 } 1 .. 5;
	PostgreSQL::Test::Utils::append_to_file("$folder/$file", join '', map { "$_\tcopied\t${file}00\n" } sort keys %keys);
}
s/FOLDER/$folder/ foreach values %scripts;

my $node = tandem_node('traffic', preload => 1, conf => "deadlock_timeout = '50ms'\ntandem.naptime = '100ms'\n");
$node->start;
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$FindBin::Bin/traffic/setup.sql" ],
	'tables, run and clients are made');

my $traffic = traffic($node, 'the traffic', \%scripts, '--client=6', "--random-seed=$seed");
usleep(500_000);
is(sqlstate($node, "SELECT tandem.start('r')"), '', 'the run starts under traffic');

subtest 'no verb and no client meets an unexpected error' => sub {
	my (%count, @unexpected);
	my $end = time() + $seconds;
	while (time() < $end)
	{
		my $verb = $verbs[ rand @verbs ];
		my ($status, undef, $err) = $node->psql('postgres', $verb, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		my $outcome = $status == 0 ? 'done' : $err =~ /ERROR:  (\w{5})/ ? $1 : $err;
		$count{"$verb $outcome"}++;
		# Refused where the run stands, or a conflict with the traffic. That the sides differ is no such thing.
		push @unexpected, "$verb: $err" if $outcome !~ /^(?:done|55000|40P01|40001|55P03)$/ || $err =~ /sides differ/;
		usleep(1000 * int rand 300);
	}
	note("$count{$_} × $_") foreach sort keys %count;
	is(join("\n", @unexpected), '', 'no verb');
	# However the verbs were drawn, and however slow the machine is: the sides were compared while clients wrote on both of them.
	becomes($node, <<~'SQL', 'the run goes on');
		CASE phase WHEN 'degraded' THEN (tandem.retry(run)).stage WHEN 'paused' THEN (tandem.resume(run)).stage ELSE stage END IN ('shadow', 'live')
		  FROM tandem.runs
		SQL
	becomes($node, 'count(*) > 5 FROM tandem.comparisons', 'the sides are compared');
	becomes($node, 'count(*) > 15 FROM work.counted', 'clients count');
	finish_traffic($traffic, 75);
};

subtest 'no difference was ever seen, and no round failed' => sub {
	is(value($node, "SELECT string_agg(d::text, E'\n') FROM (SELECT * FROM tandem.differences LIMIT 10) AS d"), '', 'no difference');
	is(value($node, 'SELECT count(*) FROM tandem.rollback_proofs WHERE automatic'), 0, 'no false alarm');
	is(value($node, "SELECT string_agg(DISTINCT reason, E'\n') FROM tandem.events('r') WHERE kind = 'round_failed'"), '', 'no failed round');
	note(value($node, "SELECT string_agg(kind || ' ' || n, ', ') FROM (SELECT kind, count(*) FROM tandem.events('r') GROUP BY kind) AS x (kind, n)"));
};

subtest 'in the end both sides are equal, and nothing is lost' => sub {
	is(value($node, 'SELECT string_agg(DISTINCT rows::text, $$ $$) FROM work.unequal'), 0, 'the same rows, says EXCEPT');
	is(value($node, 'SELECT bool_and((x.c).equal) FROM tandem.mappings AS m CROSS JOIN LATERAL (SELECT tandem.compare(m.legacy, m.new, m.key, m.forward, m.rules)) AS x (c)'),
		't', 'the same rows, says tandem.compare()');
	is(value($node, 'SELECT count(*) FROM legacy.account AS a WHERE id > 2000 AND balance <> (SELECT count(*) FROM work.counted WHERE key = a.id)'),
		0, 'no write was overwritten by an older one');
	cmp_ok(value($node, 'SELECT count(*) FROM work.counted'), '>', 15, 'of many');
};

$node->stop;
done_testing();
