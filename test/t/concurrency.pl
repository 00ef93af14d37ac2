# Concurrency: known traps one by one, with rounds made by hand; then random traffic on both sides while random verbs move the run.
# Whatever happens, both sides end equal, and no comparison ever sees a difference that is none.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();

# ---- One by one. No worker: tick() makes a round exactly when we want it.

my $by_hand = tandem_node('by_hand', conf => "deadlock_timeout = '100ms'\n");
$by_hand->start;

# A database with ten rows in legacy.item, mapped to store.item and, but for start => 0, started.
sub fresh
{
	my ($name, %opt) = @_;
	$by_hand->safe_psql('postgres', "CREATE DATABASE $name");
	$RunHelpers::database = $name;
	value($by_hand, <<~"SQL");
		SET client_min_messages = warning;
		CREATE EXTENSION pg_tandem;
		CREATE SCHEMA legacy;
		CREATE SCHEMA store;
		CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer NOT NULL DEFAULT 0);
		CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text, quantity bigint NOT NULL);
		INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 10) AS i;
		SELECT tandem.create_run('r', 'legacy', 'store', hold => '0');
		SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
		SELECT tandem.set_option('r', 'batch_size', '${\ ($opt{batch_size} // 1000)}'), tandem.set_option('r', 'validate_every', '0');
		SQL
	value($by_hand, "SELECT tandem.start('r')") unless exists $opt{start};
	return;
}

sub tick { return value($by_hand, 'SELECT did FROM tandem.tick()'); }

# Rounds until the run stands where it should.
sub tick_until
{
	my ($state) = @_;
	for (1 .. 50)
	{
		return if state_of($by_hand, 'r') eq $state;
		tick();
	}
	return;
}

sub session { return $by_hand->background_psql($RunHelpers::database, on_error_stop => 0, @_); }

# Sends a statement that will have to wait, and comes back when it does.
sub waiting
{
	my ($session, $sql) = @_;
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
	$by_hand->poll_query_until($RunHelpers::database, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
	  or die "it did not wait: $sql";
	return;
}

sub distinct
{
	my %seen = map { $_ => 1 } @_;
	return join ' ', sort keys %seen;
}

# Both sides hold the same rows, by a comparison of ours and by one that knows nothing of us.
sub sides_are_equal
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, 'SELECT count(*) FROM (TABLE legacy.item EXCEPT ALL TABLE store.item) AS x'), 0, 'nothing is missing on the new side');
	is(value($node, 'SELECT count(*) FROM (TABLE store.item EXCEPT ALL TABLE legacy.item) AS x'), 0, 'nothing is there that legacy does not have');
	return;
}

subtest 'a row whose key is changed while a batch waits for it does not move the checkpoint' => sub {
	fresh('key_change', batch_size => 3);
	my $writer = session();
	my $round = session();
	$writer->query('BEGIN; UPDATE legacy.item SET id = 1000 WHERE id = 2');
	waiting($round, 'SELECT tandem.tick()');
	$writer->query('COMMIT');
	$round->quit;
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	sides_are_equal($by_hand);
};

subtest 'a batch of which every row is deleted while it waits is not the last' => sub {
	fresh('all_gone', batch_size => 2);
	my $writer = session();
	my $round = session();
	$writer->query('BEGIN; DELETE FROM legacy.item WHERE id IN (1, 2)');
	waiting($round, 'SELECT tandem.tick()');
	$writer->query('COMMIT');
	$round->quit;
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	sides_are_equal($by_hand);
};

subtest 'a REPEATABLE READ transaction changes rows that a batch copied behind its snapshot' => sub {
	fresh('behind_snapshot');
	my $writer = session();
	$writer->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM legacy.item');
	is(tick(), 'backfill: 10 rows', 'the rows are copied');
	$writer->query('DELETE FROM legacy.item WHERE id = 3; UPDATE legacy.item SET qty = 77 WHERE id = 4; UPDATE legacy.item SET id = 55 WHERE id = 5; COMMIT');
	is($writer->{stderr}, '', 'the transaction meets no error');
	$writer->quit;
	is(value($by_hand, 'SELECT qty FROM legacy.item WHERE id = 4'), 77, 'and is committed');
	sides_are_equal($by_hand);
};

subtest 'a row that a foreign key of the new side refused, as its parent was not copied yet, is copied when its transaction ends' => sub {
	fresh('parents_first', start => 0);
	value($by_hand, <<~'SQL');
		CREATE TABLE legacy.part (id integer PRIMARY KEY, item integer REFERENCES legacy.item);
		CREATE TABLE store.part (part_id bigint PRIMARY KEY, item_id bigint REFERENCES store.item);
		INSERT INTO legacy.part VALUES (1, 1);
		SELECT tandem.map_table('r', 'legacy.part', 'store.part', forward => '{"part_id": "id", "item_id": "item"}');
		SELECT tandem.start('r');
		SQL
	my $writer = session();
	$writer->query('BEGIN; INSERT INTO legacy.part VALUES (2, 10)');
	my @did = map { tick() } 1 .. 6;
	is($did[-1], 'backfill: waits for open transactions', 'the parts wait for the open transaction') or diag(explain(\@did));
	is(state_of($by_hand, 'r'), 'dualwrite progressing 0', 'and the run with them');
	is(value($by_hand, "SELECT state FROM tandem.backfill_progress WHERE new = 'store.part'"), 'waiting for open transactions', 'the progress says so');
	$writer->query('COMMIT');
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	is(value($by_hand, 'SELECT string_agg(p::text, $$ $$ ORDER BY p) FROM store.part AS p'), '(1,1) (2,10)', 'the row is there');
};

subtest 'what the new side refused during the backfill is copied by retry(), once it is accepted' => sub {
	fresh('retried');
	value($by_hand, 'ALTER TABLE store.item ADD CONSTRAINT too_strict CHECK (quantity < 100)');
	tick();
	is(sqlstate($by_hand, "INSERT INTO legacy.item VALUES (0, 'many', 500)"), '', 'the new side does not fail the writer');
	tick_until('dualwrite degraded 0');
	is(state_of($by_hand, 'r'), 'dualwrite degraded 0', 'the first comparison finds the difference');
	is(value($by_hand, 'SELECT kind, key FROM tandem.differences WHERE purpose = $$validate$$'), 'missing|{"item_id": 0}', 'which is told');
	value($by_hand, "ALTER TABLE store.item DROP CONSTRAINT too_strict; SELECT tandem.retry('r')");
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'retry() copies what is missing');
	sides_are_equal($by_hand);
};

subtest 'TRUNCATE is refused, whether it names a table, its partition or one that references it' => sub {
	fresh('truncate', start => 0);
	value($by_hand, <<~'SQL');
		CREATE TABLE legacy.part (id integer PRIMARY KEY, item integer REFERENCES legacy.item) PARTITION BY RANGE (id);
		CREATE TABLE legacy.part_low PARTITION OF legacy.part FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
		CREATE TABLE legacy.part_lowest PARTITION OF legacy.part_low FOR VALUES FROM (0) TO (10);
		CREATE TABLE store.part (id bigint PRIMARY KEY, item bigint);
		INSERT INTO legacy.part VALUES (1, 1);
		SELECT tandem.map_table('r', 'legacy.part', 'store.part');
		SELECT tandem.start('r');
		SQL
	tick_until('shadow progressing 0');
	foreach my $what ('legacy.item CASCADE', 'legacy.part', 'legacy.part_low', 'legacy.part_lowest', 'store.part')
	{
		is(sqlstate($by_hand, "TRUNCATE $what"), '55000', $what);
	}
	value($by_hand, "SELECT tandem.cancel('r')");
	is(sqlstate($by_hand, 'TRUNCATE legacy.part_lowest'), '', 'after the run it is allowed');
	is(value($by_hand, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'and no mirror is left');
};

subtest 'a deadlock in a mirrored write of stage shadow is a deadlock, not a difference' => sub {
	fresh('deadlock');
	tick_until('shadow progressing 0');
	my $victim = session();
	my $other = session();
	$victim->query("SET deadlock_timeout = '1s'; BEGIN; UPDATE legacy.item SET qty = 100 WHERE id = 1");
	$other->query("SET deadlock_timeout = '60s'; SET statement_timeout = '10s'; BEGIN; SELECT FROM store.item WHERE item_id = 2 FOR UPDATE");
	waiting($victim, '\set VERBOSITY sqlstate
		UPDATE legacy.item SET qty = 100 WHERE id = 2');
	$other->query('UPDATE legacy.item SET qty = 200 WHERE id = 1; COMMIT');
	$victim->query('COMMIT');
	like($victim->{stderr}, qr/ERROR:  40P01/, 'the victim is told');
	$victim->quit;
	$other->quit;
	sides_are_equal($by_hand);
	is(value($by_hand, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'it is no fault of the new side');
};

foreach my $trigger ('a_touch', 'z_touch')
{
	subtest "an application's own trigger $trigger changes the row that was just written" => sub {
		fresh("own_$trigger");
		tick_until('shadow progressing 0');
		value($by_hand, <<~"SQL");
			CREATE FUNCTION legacy.touch() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN
			    UPDATE legacy.item SET qty = NEW.qty + 1000 WHERE id = NEW.id;
			    RETURN NULL;
			END \$\$;
			CREATE TRIGGER $trigger AFTER INSERT OR UPDATE OF name ON legacy.item FOR EACH ROW EXECUTE FUNCTION legacy.touch();
			INSERT INTO legacy.item VALUES (11, 'eleven', 11), (12, 'twelve', 12);
			UPDATE legacy.item SET name = upper(name) WHERE id < 4;
			SQL
		is(value($by_hand, 'SELECT qty FROM legacy.item WHERE id = 11'), 1011, 'the trigger did its work');
		sides_are_equal($by_hand);
	};
}

# ---- 50 sessions and two verbs at once, still by hand.

subtest 'two starts at once: the second waits, then finds the run started' => sub {
	fresh('two_starts', start => 0);
	my ($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.start('r')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.start('r')");
	$first->query('ROLLBACK');
	like($second->query('SELECT 1'), qr/dualwrite,progressing.*1/s, 'the first is undone: the second starts it');
	is(sqlstate($by_hand, "SELECT tandem.start('r')"), '55000', 'a third is refused');
	$_->quit foreach ($first, $second);

	fresh('two_starts_again', start => 0);
	($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.start('r')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.start('r')");
	$first->query('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/ERROR:  55000/, 'the first is committed: the second is refused');
	is(value($by_hand, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 4, 'the mirrors stand once');
	$_->quit foreach ($first, $second);
};

subtest 'rollback and promote at once: whoever comes first, the rollback stands' => sub {
	fresh('rollback_or_promote');
	tick_until('live progressing 5');
	my ($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.rollback('r', 'first')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.promote('r')");
	$first->query('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/ERROR:  55000/, 'a promote behind a rollback is refused');
	is(state_of($by_hand, 'r'), 'shadow degraded 0', 'the rollback stands');

	tick();
	value($by_hand, "SELECT tandem.retry('r')");
	tick_until('live progressing 5');
	$first->query("BEGIN; SELECT tandem.promote('r')");
	waiting($second, "SELECT epoch FROM tandem.rollback('r', 'second')");
	$first->query('COMMIT');
	$second->query('SELECT 1');
	is(state_of($by_hand, 'r'), 'shadow degraded 0', 'a rollback behind a promote is made all the same');
	is(side_of($by_hand, 'r', '1'), 'legacy', 'legacy serves');
	$_->quit foreach ($first, $second);
};

subtest 'fifty sessions see a rollback at their next statement, in any isolation level' => sub {
	fresh('fifty');
	tick_until('live progressing 100');
	my @sessions = map { session() } 1 .. 50;
	my @before;
	foreach my $i (0 .. $#sessions)
	{
		my $level = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')[ $i % 3 ];
		my $plan = $i % 2 ? 'force_generic_plan' : 'auto';
		push @before, scalar $sessions[$i]->query(<<~"SQL");
			SET plan_cache_mode = $plan;
			PREPARE side AS SELECT tandem.route('r', id::text) FROM legacy.item WHERE id = 1;
			BEGIN ISOLATION LEVEL $level;
			EXECUTE side;
			SQL
	}
	is(distinct(@before), 'new', 'all were routed to new');
	value($by_hand, "SELECT tandem.rollback('r', 'fifty sessions look on')");
	my @after = map { scalar $_->query('EXECUTE side') } @sessions;
	is(distinct(@after), 'legacy', 'each is routed to legacy by its next statement, its transaction still open');
	$_->quit foreach @sessions;
};

$by_hand->stop;

# ---- At random. Six clients write on both sides, by route() or where they please, while the run is moved at random.

my $node = tandem_node('random', preload => 1, conf => "deadlock_timeout = '50ms'\ntandem.naptime = '100ms'\n");
$node->start;
$RunHelpers::database = 'postgres';
my $copies = PostgreSQL::Test::Utils::tempdir('copies');
foreach my $i (1 .. 20)
{
	my %keys = map { 1 + int rand 1000 => 1 } 1 .. 5;
	PostgreSQL::Test::Utils::append_to_file("$copies/$i", join '', map { "$_\tcopied\t${i}00\n" } keys %keys);
}
value($node, <<~"SQL");
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA bank;
	CREATE TABLE legacy.account (id integer PRIMARY KEY, owner varchar(30), balance integer NOT NULL);
	CREATE TABLE legacy.orders (id integer PRIMARY KEY, label text);
	CREATE TABLE legacy.line (order_id integer REFERENCES legacy.orders ON DELETE CASCADE, pos smallint, qty integer, PRIMARY KEY (order_id, pos));
	CREATE TABLE bank.account (account_no bigint PRIMARY KEY, holder text, cents numeric NOT NULL);
	CREATE TABLE bank.purchase (purchase_id bigint PRIMARY KEY, label text);
	CREATE TABLE bank.item (purchase_id bigint REFERENCES bank.purchase ON DELETE CASCADE, position bigint, quantity bigint, PRIMARY KEY (purchase_id, position));
	INSERT INTO legacy.account SELECT i, 'owner ' || i, i FROM generate_series(1, 1500) AS i;
	INSERT INTO legacy.account SELECT 2000 + i, 'counter ' || i, 0 FROM generate_series(1, 8) AS i; -- only the scripts that count write these
	INSERT INTO legacy.orders SELECT i, 'order ' || i FROM generate_series(1, 300) AS i;
	INSERT INTO legacy.line SELECT i, p, 1 FROM generate_series(1, 300) AS i, generate_series(1, 2) AS p;
	SELECT tandem.create_run('r', 'legacy', 'bank', hold => '300 ms');
	SELECT tandem.map_table('r', 'legacy.line', 'bank.item', forward => '{"purchase_id": "order_id", "position": "pos", "quantity": "qty"}');
	SELECT tandem.map_table('r', 'legacy.orders', 'bank.purchase', forward => '{"purchase_id": "id"}');
	SELECT tandem.map_table('r', 'legacy.account', 'bank.account',
	    forward => '{"account_no": "id", "holder": "owner", "cents": "balance::numeric * 100"}', reverse => '{"balance": "(cents / 100)::integer"}');
	SELECT tandem.set_option('r', 'batch_size', '7'), tandem.set_option('r', 'validate_every', '200 ms');

	-- What was added to the counters: a transaction that was told it committed must be found in them.
	CREATE SCHEMA work;
	CREATE TABLE work.counted (key integer);

	-- What the clients call. on_new: where a client works on a key: by route(), or on a side that it picks itself.
	CREATE FUNCTION work.on_new(key integer, pick integer) RETURNS boolean LANGUAGE sql AS \$\$
	    SELECT CASE WHEN stage = 'off' OR pick = 1 THEN false WHEN pick = 2 THEN true ELSE tandem.route('r', key::text) = 'new' END FROM tandem.runs
	\$\$;
	-- Executes what may meet a key that is there already.
	CREATE FUNCTION work.unless_taken(sql text) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN EXECUTE sql; EXCEPTION WHEN unique_violation THEN NULL; END \$\$;
	CREATE FUNCTION work.truncate_is_refused(relation regclass) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
	    IF (SELECT stage = 'off' FROM tandem.runs) THEN RETURN; END IF;
	    EXECUTE 'TRUNCATE ' || relation;
	    RAISE 'TRUNCATE % was not refused', relation;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
	END \$\$;
	SQL

# Each script is written once, for legacy, and translated for the new side.
my %on_new = (
	'legacy.account' => 'bank.account', 'legacy.orders' => 'bank.purchase', 'legacy.line' => 'bank.item',
	'order_id' => 'purchase_id', 'pos' => 'position', 'qty' => 'quantity', 'owner' => 'holder');
sub both_sides
{
	my ($weight, $sql, $begin) = @_;
	(my $new = $sql) =~ s/(legacy\.\w+|\b(?:order_id|pos|qty|owner)\b)/$on_new{$1}/g;
	$new =~ s/^(.*(?:bank\.account).*)$/my $line = $1; $line =~ s!\bid\b!account_no!g; $line =~ s!\bbalance\b!cents!g; $line =~ s!:n\b!100 * :n!g; $line =~ s!:one\b!100!g; $line/gme;
	$new =~ s/^(.*(?:bank\.purchase).*)$/my $line = $1; $line =~ s!\bid\b!purchase_id!g; $line/gme;
	$begin //= 'BEGIN';
	return <<~"SCRIPT";
		\\set k random(1, 1000)
		\\set k2 random(1, 1000)
		\\set o random(1, 300)
		\\set n random(1, 50)
		\\set file random(1, 20)
		\\set c 2000 + random(1, 8)
		\\set one 1
		\\set pick random(1, 4)
		$begin;
		SELECT work.on_new(:k, :pick) AS on_new \\gset
		\\if :on_new
		$new
		\\else
		$sql
		\\endif
		COMMIT;
		SCRIPT
}

# A new side that has no such row as yet counts nothing.
my $count = 'WITH u AS (UPDATE legacy.account SET balance = balance + :one WHERE id = :c RETURNING 1) INSERT INTO work.counted SELECT :c FROM u;';
my %scripts = (
	'count@4' => both_sides(4, $count),
	# Holds the row of one side for a while: who writes it on the other side deadlocks in his mirror, or makes this one do so.
	'lock_and_count@3' => both_sides(3, "SELECT FROM legacy.account WHERE id = :c FOR UPDATE;\n\\sleep 3 ms\n$count"),
	'count_repeatable_read@2' => both_sides(2, $count, 'BEGIN ISOLATION LEVEL REPEATABLE READ'),
	'change@5' => both_sides(5, 'UPDATE legacy.account SET balance = balance + 100 * :n WHERE id = :k;'),
	'add_or_remove@4' => both_sides(4, "SELECT work.unless_taken('INSERT INTO legacy.account (id, owner, balance) VALUES (:k, ''added'', :n)');\nDELETE FROM legacy.account WHERE id = :k2;"),
	'upsert@2' => both_sides(2, "INSERT INTO legacy.account AS a (id, owner, balance) VALUES (:k, 'upserted', :n), (1000 + :k2, 'upserted', :n) ON CONFLICT (id) DO UPDATE SET owner = a.owner || '+', balance = EXCLUDED.balance;" =~ s/owner = a\.owner/owner = EXCLUDED.owner/r),
	'other_key@3' => both_sides(3, "SELECT work.unless_taken('UPDATE legacy.account SET id = :k2 WHERE id = :k');"),
	'many_rows@1' => both_sides(1, "UPDATE legacy.account SET balance = :n WHERE id BETWEEN :k AND :k + 20;\nDELETE FROM legacy.account WHERE id BETWEEN :k2 AND :k2 + 3;"),
	'swap@1' => both_sides(1, "DELETE FROM legacy.account WHERE id = :k;\nSELECT work.unless_taken('UPDATE legacy.account SET id = :k WHERE id = :k2');\nSELECT work.unless_taken('INSERT INTO legacy.account VALUES (:k2, ''swapped'', :n)');"),
	'savepoints@2' => both_sides(2, "UPDATE legacy.account SET owner = 'kept' WHERE id = :k;\nSAVEPOINT s;\nDELETE FROM legacy.account WHERE id IN (:k, :k2);\nROLLBACK TO s;\nUPDATE legacy.account SET balance = :n WHERE id = :k2;\nSAVEPOINT s;\nUPDATE legacy.account SET owner = 'kept too' WHERE id = :k2;\nRELEASE s;"),
	'undone@1' => both_sides(1, "UPDATE legacy.account SET owner = 'undone' WHERE id = :k;\nDELETE FROM legacy.account WHERE id = :k2;\nROLLBACK;\nBEGIN;"),
	'copy@1' => both_sides(1, "SELECT work.unless_taken('COPY legacy.account FROM ''$copies/:file''');"),
	'truncate@1' => both_sides(1, "SELECT work.truncate_is_refused('legacy.account');\nSELECT work.truncate_is_refused('legacy.line');"),
	'order_with_lines@3' => both_sides(3, "DELETE FROM legacy.orders WHERE id = :o;\nSELECT work.unless_taken('INSERT INTO legacy.orders (id, label) VALUES (:o, ''new'')');\nINSERT INTO legacy.line (order_id, pos, qty) VALUES (:o, 1, :n), (:o, 3, :n) ON CONFLICT DO NOTHING;"),
	'lines@3' => both_sides(3, "UPDATE legacy.line SET qty = :n WHERE order_id = :o;\nSELECT work.unless_taken('UPDATE legacy.line SET pos = pos + 1 WHERE order_id = :o AND pos = 3');\nDELETE FROM legacy.line WHERE order_id = :o AND pos > 5;"),
	'repeatable_read@3' => both_sides(3, "SELECT count(*) FROM legacy.account;\nUPDATE legacy.account SET balance = :n WHERE id = :k;\nDELETE FROM legacy.account WHERE id = :k2;\nDELETE FROM legacy.line WHERE order_id = :o AND pos = 2;", 'BEGIN ISOLATION LEVEL REPEATABLE READ'),
	'serializable@1' => both_sides(1, "SELECT count(*) FROM legacy.account WHERE id < :k;\nUPDATE legacy.account SET balance = :n WHERE id = :k2;", 'BEGIN ISOLATION LEVEL SERIALIZABLE'),
);

subtest 'random traffic on both sides while random verbs move the run' => sub {
	my $traffic = traffic($node, 'the traffic', \%scripts, '--client=6', "--random-seed=$seed");
	my @verbs = (
		("SELECT tandem.promote('r')") x 5,
		"SELECT tandem.pause('r')", ("SELECT tandem.resume('r')") x 3,
		"SELECT tandem.rollback('r', 'at random')", ("SELECT tandem.retry('r')") x 3,
		"SELECT tandem.validate('r')", 'SELECT tandem.tick()', 'ANALYZE', "SELECT tandem.set_option('r', 'batch_size', '11')");
	usleep(500_000);
	is(sqlstate($node, "SELECT tandem.start('r')"), '', 'the run starts');
	my (%count, @unexpected);
	my $end = time() + ($ENV{TANDEM_RANDOM_SECONDS} // 15);
	while (time() < $end)
	{
		my $verb = $verbs[ rand @verbs ];
		my ($status, undef, $err) = $node->psql('postgres', $verb, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		my $outcome = $status == 0 ? 'done' : $err =~ /ERROR:  (\w{5})/ ? $1 : $err;
		$count{ ($verb =~ /(\w+)(?:\(|$)/)[0] }{$outcome}++;
		# Illegal where the run stands, or a conflict with the traffic. That the sides differ is no such thing.
		push @unexpected, "$verb: $err" if $outcome !~ /^(?:done|55000|40P01|40001|55P03)$/ || $err =~ /sides differ/;
		usleep(1000 * int rand 300);
	}
	is("@unexpected", '', 'no verb met an unexpected error');
	foreach my $verb (sort keys %count)
	{
		note("$verb: ", join ', ', map { "$_ $count{$verb}{$_}" } sort keys %{ $count{$verb} });
	}
	my $done = finish_traffic($traffic);
	cmp_ok($done, '>', 500, "about $done transactions were made");

	is(value($node, "SELECT string_agg(t || ' ' || n, ', ') FROM (SELECT 'account', count(*) FROM ((SELECT id, owner, balance * 100 FROM legacy.account EXCEPT ALL TABLE bank.account) UNION ALL (TABLE bank.account EXCEPT ALL SELECT id, owner, balance * 100 FROM legacy.account)) AS x UNION ALL SELECT 'orders', count(*) FROM ((TABLE legacy.orders EXCEPT ALL TABLE bank.purchase) UNION ALL (TABLE bank.purchase EXCEPT ALL TABLE legacy.orders)) AS x UNION ALL SELECT 'line', count(*) FROM ((TABLE legacy.line EXCEPT ALL TABLE bank.item) UNION ALL (TABLE bank.item EXCEPT ALL TABLE legacy.line)) AS x) AS y (t, n)"),
		'account 0, orders 0, line 0', 'both sides hold the same rows, says EXCEPT')
	  if value($node, "SELECT stage <> 'dualwrite' FROM tandem.runs") eq 't';
	is(value($node, 'SELECT count(*) FROM legacy.account AS a WHERE id > 2000 AND balance <> (SELECT count(*) FROM work.counted WHERE key = a.id)'), 0,
		'no write was overwritten by an older one');
	is(value($node, "SELECT string_agg(d::text, E'\n') FROM (SELECT * FROM tandem.differences LIMIT 10) AS d"), '', 'no comparison found a difference');
	is(value($node, 'SELECT count(*) FROM tandem.rollback_proofs WHERE automatic'), 0, 'no rollback was a false alarm');
	is(value($node, "SELECT string_agg(DISTINCT e.kind || ': ' || e.reason, E'\n') FROM tandem.events('r') AS e WHERE kind = 'round_failed'"), '', 'no round failed');
	cmp_ok(value($node, 'SELECT count(*) FROM tandem.comparisons'), '>', 30, 'many comparisons were made');
	note(value($node, "SELECT string_agg(kind || ' ' || n, ', ') FROM (SELECT kind, count(*) FROM tandem.events('r') GROUP BY kind) AS x (kind, n)"));
	note(value($node, "SELECT 'mirror failures: ' || count(*) FROM tandem.mirror_failures"));

	becomes($node, "CASE WHEN phase = 'degraded' THEN (tandem.retry(run)).stage WHEN phase = 'paused' THEN (tandem.resume(run)).stage ELSE stage END IN ('shadow', 'live') FROM tandem.runs", 'the run goes on');
	foreach my $mapping ([qw(account account)], [qw(orders purchase)], [qw(line item)])
	{
		is(value($node, "SELECT (x.c).equal FROM tandem.mappings AS m CROSS JOIN LATERAL (SELECT tandem.compare(m.legacy, m.new, m.key, m.forward, m.rules)) AS x (c) WHERE m.legacy = 'legacy.$mapping->[0]'::regclass"),
			't', "legacy.$mapping->[0] equals bank.$mapping->[1], says tandem.compare()");
	}
};

$node->stop;
done_testing();
