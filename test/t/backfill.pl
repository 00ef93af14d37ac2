# Backfill: the server is killed at random moments while writers are at work on both sides of tables of many kinds; in the end both sides are
# equal by a FULL JOIN, no row was copied twice, none is lost. A standby that falls behind holds it back; so does a row that somebody holds,
# without that anybody else waits.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $rounds = $ENV{TANDEM_QUICK} ? 4 : 8;
my $node = tandem_node('backfill', preload => 1, conf => "restart_after_crash = on\ntandem.naptime = '100ms'\nwal_receiver_status_interval = '100ms'\n",
	init => [ allows_streaming => 1 ]);
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE COLLATION public.anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer);
	CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text, quantity bigint);
	CREATE TABLE legacy.line (item integer, n integer, v integer, PRIMARY KEY (item, n)); -- its parents are the items
	CREATE TABLE store.line (item integer REFERENCES store.item, n integer, v integer, PRIMARY KEY (n, item));
	CREATE TABLE legacy.word (w text COLLATE public.anycase PRIMARY KEY, v integer);
	CREATE TABLE store.word (w text COLLATE public.anycase PRIMARY KEY, v integer);
	CREATE TABLE legacy.event (id integer PRIMARY KEY, v integer) PARTITION BY HASH (id);
	CREATE TABLE store.event (id integer PRIMARY KEY, v integer) PARTITION BY RANGE (id);
	CREATE TABLE store.event_1 PARTITION OF store.event FOR VALUES FROM (MINVALUE) TO (1000);
	CREATE TABLE store.event_2 PARTITION OF store.event FOR VALUES FROM (1000) TO (MAXVALUE);
	CREATE TABLE legacy.staff (id integer PRIMARY KEY, boss integer, v integer);
	CREATE TABLE store.staff (id integer PRIMARY KEY, boss integer REFERENCES store.staff, v integer);
	CREATE TABLE legacy.client (id integer PRIMARY KEY, name text, city text); -- becomes two
	CREATE TABLE store.client (id integer PRIMARY KEY, name text);
	CREATE TABLE store.address (client integer PRIMARY KEY, city text);
	CREATE TABLE legacy.nothing (id integer PRIMARY KEY);
	CREATE TABLE store.nothing (id integer PRIMARY KEY);
	SELECT format('CREATE TABLE legacy.event_%s PARTITION OF legacy.event FOR VALUES WITH (MODULUS 3, REMAINDER %s)', i, i) FROM generate_series(0, 2) AS i \gexec
	INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 4000) AS i;
	INSERT INTO legacy.line SELECT 1 + i % 3000, i, i FROM generate_series(1, 3000) AS i;
	INSERT INTO legacy.word SELECT CASE WHEN i % 2 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END, i FROM generate_series(1, 2000) AS i;
	INSERT INTO legacy.event SELECT i, i FROM generate_series(1, 2000) AS i;
	INSERT INTO legacy.staff SELECT i, CASE WHEN i < 900 THEN i + 1 + i % 100 END, i FROM generate_series(1, 1000) AS i;
	INSERT INTO legacy.client SELECT i, 'n' || i, 'c' || i FROM generate_series(1, 2000) AS i;
	-- what the backfill inserts, apart from what mirrors do
	CREATE TABLE public.copied (new text, key text);
	CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT backend_type = 'pg_tandem executor' FROM pg_stat_get_activity(pg_backend_pid())) THEN
			INSERT INTO public.copied VALUES (TG_TABLE_NAME, CASE WHEN TG_TABLE_NAME = 'line' THEN concat(to_jsonb(NEW) ->> 'n', '/', to_jsonb(NEW) ->> 'item')
				ELSE coalesce(to_jsonb(NEW) ->> 'id', to_jsonb(NEW) ->> 'item_id', to_jsonb(NEW) ->> 'w', to_jsonb(NEW) ->> 'client') END);
		END IF;
		RETURN NULL;
	END $$;
	SELECT format('CREATE TRIGGER note AFTER INSERT ON store.%I FOR EACH ROW EXECUTE FUNCTION public.note()', t)
	  FROM unnest('{item,line,word,event,staff,client,address}'::text[]) AS t \gexec
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
	SELECT tandem.map_table('r', ('legacy.' || t)::regclass, ('store.' || t)::regclass) FROM unnest('{line,word,event,staff,client,nothing}'::text[]) AS t;
	SELECT tandem.map_table('r', 'legacy.client', 'store.address', forward => '{"client": "id"}');
	SELECT tandem.set_option('r', 'batch_size', '30'), tandem.set_option('r', 'throttle_delay', '60 ms'); -- half a minute: at first it can't be through before we are
	SQL

# Writers: rows come, change, go and change their keys, on either side. Parents of lines stay. Each of the two sides has keys of its own for
# new rows, so that only the same old row is written from both.
my $new_key = 100_000;
sub scripts
{
	$new_key += 100_000_000;
	my %both = (legacy => [ 'legacy.item', 'id', 'qty' ], store => [ 'store.item', 'item_id', 'quantity' ]);
	my %scripts;
	foreach my $side (sort keys %both)
	{
		my ($item, $id, $qty) = @{ $both{$side} };
		my $new = $side eq 'legacy' ? $new_key : $new_key + 50_000_000;
		$scripts{"$side.sql"} = <<~"SQL";
			\\set old random(1, 4000)
			\\set gone random(3001, 4000)
			\\set new $new + random(1, 40000000)
			UPDATE $item SET $qty = $qty + 1 WHERE $id = :old;
			INSERT INTO $item ($id, $qty) VALUES (:new, 1) ON CONFLICT ($id) DO NOTHING;
			DELETE FROM $item WHERE $id = :gone;
			\\set n random(1, 2000)
			UPDATE $side.word SET v = v + 1 WHERE w = md5(:n::text);
			DELETE FROM $side.word WHERE v = :gone - 3000;
			UPDATE $side.line SET v = v - 1 WHERE n = :n AND item = 1 + :n % 3000;
			DELETE FROM $side.line WHERE n = :gone - 1000 AND item = 1 + (:gone - 1000) % 3000;
			SQL
		$scripts{"more_$side.sql"} = <<~"SQL";
			\\set n random(1, 2000)
			\\set new $new + random(1, 40000000)
			UPDATE $side.event SET v = v + 1 WHERE id = :n;
			UPDATE $side.event SET id = :new WHERE id = :n AND :n % 10 = 0;
			INSERT INTO $side.event VALUES (- :new, 1) ON CONFLICT (id) DO NOTHING;
			UPDATE $item SET $id = :new WHERE $id = 3000 + :n % 1000 AND :n % 3 = 0 AND NOT EXISTS (SELECT FROM $side.line WHERE item = 3000 + :n % 1000);
			UPDATE $side.staff SET v = v + 1 WHERE id = 1 + :n % 1000;
			DELETE FROM $side.client WHERE id = :n AND :n % 5 = 0;
			UPDATE $side.client SET name = name || '+' WHERE id = :n;
			SQL
	}
	$scripts{'city.sql'} = "\\set n random(1, 2000)\nUPDATE legacy.client SET city = city || '.' WHERE id = :n;\nUPDATE store.address SET city = city || ',' WHERE client = :n;\n";
	return \%scripts;
}

sub kill_executor
{
	kill_process($node, value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor' LIMIT 1"));
	return;
}

my %ways = (
	'an immediate stop' => sub { $node->stop('immediate'); $node->start; },
	'kill -9 of the postmaster' => sub { kill_postmaster($node); },
	'kill -9 of the executor' => \&kill_executor,
);

# The oracle: each table beside its counterpart.
my %pairs = (
	'item' => 'SELECT count(*) FROM legacy.item AS l FULL JOIN store.item AS s ON s.item_id = l.id WHERE (l.id, l.name, l.qty) IS DISTINCT FROM (s.item_id, s.title, s.quantity)',
	(map { ($_ => "SELECT count(*) FROM legacy.$_ AS l FULL JOIN store.$_ AS s ON l.id = s.id WHERE l IS DISTINCT FROM s") } qw(event staff nothing)),
	'line' => 'SELECT count(*) FROM legacy.line AS l FULL JOIN store.line AS s ON (l.item, l.n) = (s.item, s.n) WHERE (l.item, l.n, l.v) IS DISTINCT FROM (s.item, s.n, s.v)',
	'word' => 'SELECT count(*) FROM legacy.word AS l FULL JOIN store.word AS s ON l.w = s.w WHERE (l.w, l.v) IS DISTINCT FROM (s.w, s.v)',
	'client' => 'SELECT count(*) FROM legacy.client AS l FULL JOIN store.client AS s ON l.id = s.id FULL JOIN store.address AS a ON a.client = l.id
		WHERE (l.id, l.name, l.city) IS DISTINCT FROM (s.id, s.name, a.city)',
);
sub sides_are_equal
{
	foreach my $table (sort keys %pairs)
	{
		is(value($node, $pairs{$table}), 0, "$table: both sides are equal, row by row");
	}
	return;
}

value($node, "SELECT tandem.start('r')");
my $crashes = 0;
for my $round (1 .. $rounds)
{
	my @way = sort keys %ways;
	my $way = $way[ rand @way ];
	my $writers = traffic($node, "writers_$round", scripts(), '--client=4', '--jobs=1', '--rate=400');
	my $seen = value($node, 'SELECT rows_seen FROM tandem.backfill_runs');
	$node->poll_query_until('postgres', "SELECT rows_seen > $seen OR tables = tables_finished FROM tandem.backfill_runs") or die 'the backfill stands still';
	usleep(1000 * int rand 300);
	my $before = value($node, 'SELECT sum(rows_seen) FROM tandem.backfill');
	last if value($node, "SELECT stage <> 'dualwrite' FROM tandem.runs") eq 't';
	$ways{$way}->();
	value($node, "SELECT tandem.throttle('r', batch_size => 60, delay => '5 ms')") if ++$crashes == 3;
	eval { $writers->{run}->kill_kill; $writers->{run}->finish; };
	cmp_ok(value($node, 'SELECT sum(rows_seen) FROM tandem.backfill'), '>=', $before, "$way: no batch that was committed is lost");
}
cmp_ok($crashes, '>=', 3, "$crashes crashes in the middle of it");
my $writers = traffic($node, 'writers_last', scripts(), '--client=4', '--jobs=1', '--rate=400');
value($node, "SELECT tandem.throttle('r', batch_size => 500, delay => '0')");
becomes($node, "stage = 'shadow' FROM tandem.runs", 'the backfill completes under writers')
  or diag(value($node, 'SELECT concat_ws($$ $$, stage, phase, waiting_for, error) FROM tandem.runs'), "\n", value($node, 'SELECT to_jsonb(p) FROM tandem.backfill_progress AS p'), "\n",
	value($node, 'SELECT to_jsonb(d) FROM tandem.differences AS d LIMIT 10'));
finish_traffic($writers, 20);
sides_are_equal();
is(value($node, 'SELECT string_agg(format($$%s %s$$, new, key), $$, $$) FROM (SELECT new, key FROM public.copied GROUP BY new, key HAVING count(*) > 1) AS x'), '', 'no row was copied twice');
my $copied = value($node, 'SELECT count(*) FROM public.copied');
cmp_ok($copied, '>', 0, "$copied rows were copied, the others mirrored before"); # how many depends on who was faster
is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind IN ('start', 'synced')"), 2, 'one start, one end');
is(value($node, "SELECT count(*) FROM tandem.task WHERE kind = 'tandem.backfill_batch' AND state NOT IN ('done', 'cancelled')"), 0, 'no batch is left open in the list of tasks');
value($node, "SELECT tandem.cancel('r'); TRUNCATE store.item, store.line");

sub fresh_run
{
	my (%option) = @_;
	value($node, "SELECT tandem.create_run('$option{run}', 'legacy', 'store', hold => '1 hour');
		SELECT tandem.map_table('$option{run}', 'legacy.item', 'store.item', forward => '{\"item_id\": \"id\", \"title\": \"name\", \"quantity\": \"qty\"}')");
	value($node, "SELECT tandem.set_option('$option{run}', '$_', '$option{option}{$_}')") foreach sort keys %{ $option{option} };
	value($node, "SELECT tandem.start('$option{run}')");
	return;
}

subtest 'a standby that falls behind holds the backfill back' => sub {
	$node->backup('base');
	my $standby = tandem_node('standby', from_backup => [ $node, 'base', has_streaming => 1 ]);
	$standby->start;
	$node->wait_for_catchup($standby);
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
	fresh_run(run => 'lag', option => { batch_size => 100, throttle_delay => '20 ms', throttle_lag => '300 ms' });
	becomes($node, "throttled_by ~ '^lag: standby is [0-9:]+ behind \\(limit 300 ms\\)\$' FROM tandem.backfill_progress WHERE run = 'lag'", 'by time');
	my $seen = value($node, "SELECT rows_seen FROM tandem.backfill_progress WHERE run = 'lag'");
	like(value($node, "SELECT waiting_for FROM tandem.status('lag')"), qr/held back by lag: standby is/, 'the status says so');
	usleep(500_000);
	is(value($node, "SELECT rows_seen FROM tandem.backfill_progress WHERE run = 'lag'"), $seen, 'no batch is made');
	value($node, "SELECT tandem.throttle('lag', lag => '1 kB')");
	becomes($node, "throttled_by ~ 'lag: standby is [0-9]+ (bytes|kB) behind \\(limit 1 kB\\)' FROM tandem.backfill_progress WHERE run = 'lag'", 'by size');
	is(value($node, "SELECT rows_seen FROM tandem.backfill_progress WHERE run = 'lag'"), $seen, 'still none');
	value($node, "SELECT tandem.throttle('lag', lag => '1 GB')");
	becomes($node, "rows_seen > $seen FROM tandem.backfill_progress WHERE run = 'lag'", 'another limit lets it go on');
	value($node, "SELECT tandem.throttle('lag', lag => '300 ms')");
	becomes($node, "throttled_by IS NOT NULL FROM tandem.backfill_progress WHERE run = 'lag'", 'and holds it back again');
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	becomes($node, "stage = 'shadow' FROM tandem.runs WHERE run = 'lag'", 'when the standby has caught up it goes on to its end');
	$standby->stop;
	value($node, "SELECT tandem.cancel('lag'); DELETE FROM store.line; DELETE FROM store.item");
};

subtest 'a host that is busy holds the backfill back' => sub {
	fresh_run(run => 'busy', option => { batch_size => 10, throttle_delay => '100 ms', throttle_load => '2 backends' });
	my $busy = "FROM tandem.backfill_progress WHERE run = 'busy'";
	becomes($node, "rows_seen > 0 $busy", 'it is at work, with no more than us about');
	my @sleepers = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
	$_->query_until(qr/asleep/, "\\echo asleep\nSELECT pg_sleep(3600);\n") foreach @sleepers;
	becomes($node, "throttled_by ~ '^load: [0-9]+ active backends \\(limit 2 backends\\)\$' $busy", 'three sessions are at work: the progress says what it waits for');
	my $seen = value($node, "SELECT rows_seen $busy");
	like(value($node, "SELECT waiting_for FROM tandem.status('busy')"), qr/held back by load: [0-9]+ active backends/, 'the status says so');
	for my $round (1 .. 5)
	{
		my $at = value($node, "SELECT round_at FROM tandem.runs WHERE run = 'busy'");
		wait_until($node, "round_at > '$at' FROM tandem.runs WHERE run = 'busy'") or last;
		is(value($node, "SELECT rows_seen $busy"), $seen, "another round, and no batch: $round");
	}
	like(value($node, "SELECT throttled_by $busy"), qr/^load: /, 'it is held back still');
	value($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep' AND state = 'active'");
	$_->quit foreach @sleepers;
	becomes($node, "rows_seen > $seen AND throttled_by IS NULL $busy", 'they are gone, and it goes on');
	value($node, "SELECT tandem.cancel('busy'); DELETE FROM store.line; DELETE FROM store.item");
};

subtest 'a row that somebody holds stops the backfill, and nobody else' => sub {
	fresh_run(run => 'held', option => { batch_size => 10, throttle_delay => '500 ms' });
	my $ids = value($node, 'SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM legacy.item ORDER BY id LIMIT 60 OFFSET 2000) AS x');
	my @id = $ids =~ /(-?\d+)/g;
	my $holder = $node->background_psql('postgres');
	$holder->query("BEGIN; UPDATE legacy.item SET name = 'held' WHERE id = $id[50]");
	value($node, "SELECT tandem.throttle('held', batch_size => 500, delay => '0')"); # 200 batches, half a second each, stood between us
	becomes($node, "throttled_by = 'a row that another transaction has locked' FROM tandem.backfill_progress WHERE run = 'held'", 'the progress says what it waits for');
	is(sqlstate($node, "SET lock_timeout = '20s'; UPDATE legacy.item SET name = 'quick' WHERE id IN ($id[0], $id[49], $id[51], $id[59])"), '', 'another writer does not wait for it');
	is(value($node, "SELECT error FROM tandem.runs WHERE run = 'held'"), '', 'that is no error');
	$holder->query('COMMIT');
	$holder->quit;
	becomes($node, "stage = 'shadow' FROM tandem.runs WHERE run = 'held'", 'then it goes on');
	is(value($node, $pairs{item}), 0, 'both sides are equal');
};

subtest 'what no row is at fault for: rights that are taken away, a timeout, no room for temporary files, a table that is dropped' => sub {
	value($node, <<~'SQL');
		CREATE ROLE shop_owner LOGIN;
		SELECT tandem.grant_role('shop_owner', 'operator');
		CREATE SCHEMA shop_old AUTHORIZATION shop_owner;
		CREATE SCHEMA shop_new AUTHORIZATION shop_owner;
		ALTER ROLE shop_owner SET statement_timeout = '1ms'; -- for its sessions; the executor makes no statement of a client
		ALTER ROLE shop_owner SET temp_file_limit = 0;
		SET ROLE shop_owner;
		CREATE TABLE shop_old.item (id integer PRIMARY KEY, v text);
		CREATE TABLE shop_new.item (id integer PRIMARY KEY, v text);
		INSERT INTO shop_old.item SELECT i, md5(i::text) FROM generate_series(1, 30000) AS i;
		SELECT tandem.create_run('shop', 'shop_old', 'shop_new', hold => '1 hour'), tandem.map_table('shop', 'shop_old.item', 'shop_new.item');
		SELECT tandem.set_option('shop', 'batch_size', '50'), tandem.set_option('shop', 'throttle_delay', '200 ms'), tandem.start('shop'); -- two minutes
		SQL
	my $shop = "FROM tandem.backfill_progress WHERE run = 'shop'";
	becomes($node, "rows_seen > 0 $shop", 'it is at work');
	# of these the event triggers would refuse the one and the other
	value($node, 'SET session_replication_role = replica; REVOKE ALL ON shop_new.item FROM shop_owner');
	becomes($node, "error ~ '^42501: ' FROM tandem.runs WHERE run = 'shop'", 'without the right to insert its rounds fail, and the status says why');
	is(value($node, "SELECT count(*) FROM tandem.backfill_rejections WHERE run = 'shop'"), 0, 'no row is set apart for that');
	value($node, 'GRANT ALL ON shop_new.item TO shop_owner');
	my $seen = value($node, "SELECT rows_seen $shop");
	becomes($node, "rows_seen > $seen $shop", 'with the right it goes on');
	value($node, 'SET session_replication_role = replica; ALTER TABLE shop_new.item RENAME TO elsewhere');
	becomes($node, "error ~ '^42P01: ' FROM tandem.runs WHERE run = 'shop'", 'a table that is gone');
	value($node, "SET session_replication_role = replica; ALTER TABLE shop_new.elsewhere RENAME TO item; SELECT tandem.throttle('shop', batch_size => 10000, delay => '0')");
	becomes($node, "stage = 'shadow' FROM tandem.runs WHERE run = 'shop'", 'it is back, and the backfill comes to its end');
	is(value($node, 'SELECT count(*) FROM shop_old.item AS l FULL JOIN shop_new.item AS s ON l.id = s.id WHERE l IS DISTINCT FROM s'), 0, 'both sides are equal');
	value($node, "SELECT tandem.cancel('shop')");
};

$node->stop;
done_testing();
