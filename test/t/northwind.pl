# A real legacy schema, end to end: Northwind in schema legacy, its redesign in schema shop (northwind/new_schema.sql), all fourteen
# tables in one run, under traffic: to 100 %, back by itself when one row is changed behind the mirror, up again, and completed.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use Test::More;

my $dump = tandem_data('northwind/northwind.sql');
plan skip_all => 'Northwind is not here: ../shared/data/northwind/northwind.sql, beside the checkout' unless defined $dump;

my $node = tandem_node('northwind', preload => 1);
$node->start;
$node->command_ok(
	[
		'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
		'-c', 'CREATE SCHEMA legacy', '-c', 'SET search_path = legacy', '-f', $dump
	],
	'the dump is loaded into schema legacy');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_tandem');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$FindBin::Bin/northwind/new_schema.sql" ],
	'the redesign is created');

# A client asks route() for each order and works on the side that it names. None touches order 11077: a later write would mend, on its way through the
# mirror, what is changed behind the mirror below, before the proof sees it.
my %scripts = (
	'change_quantities@3' => <<~'SQL',
		\set order random(10248, 11076)
		\set more random(1, 3)
		BEGIN;
		SELECT tandem.route('northwind', :order::text) = 'new' AS on_new \gset
		\if :on_new
		UPDATE shop.order_line SET quantity = 1 + (quantity + :more) % 100, discount = 0.05 * :more WHERE order_id = :order;
		\else
		UPDATE legacy.order_details SET quantity = 1 + (quantity + :more) % 100, discount = 0.05 * :more WHERE order_id = :order;
		\endif
		COMMIT;
		SQL
	'place_or_withdraw_an_order@1' => <<~'SQL',
		\set order 20000 + :client_id * 1000 + random(1, 50)
		\set product random(1, 77)
		BEGIN;
		SELECT tandem.route('northwind', :order::text) = 'new' AS on_new \gset
		\if :on_new
		DELETE FROM shop.order_line WHERE order_id = :order;
		DELETE FROM shop.sales_order WHERE order_id = :order;
		INSERT INTO shop.sales_order (order_id, customer_code, employee_id, freight, ship_to) VALUES (:order, 'ALFKI', 5, 12.34, '{"city": "Berlin", "name": "Alfred", "region": null, "street": "Obere Str. 57", "country": "Germany", "postal_code": "12209"}');
		INSERT INTO shop.order_line (order_id, product_id, price, quantity, discount) VALUES (:order, :product, 9.99, 3, 0.25), (:order, :product % 77 + 1, 19.05, 1, 0);
		\else
		DELETE FROM legacy.order_details WHERE order_id = :order;
		DELETE FROM legacy.orders WHERE order_id = :order;
		INSERT INTO legacy.orders (order_id, customer_id, employee_id, freight, ship_name, ship_city) VALUES (:order, 'BONAP', 4, 43.21, 'Bon app''', 'Marseille');
		INSERT INTO legacy.order_details VALUES (:order, :product, 4.5, 30, 0.15);
		\endif
		COMMIT;
		SQL
	'move_an_employee@1' => <<~'SQL',
		\set employee random(3, 9)
		\set boss random(1, 2)
		BEGIN;
		SELECT tandem.route('northwind', :employee::text) = 'new' AS on_new \gset
		\if :on_new
		UPDATE shop.employee SET manager_id = :boss, phones[2] = (1000 + :boss)::text WHERE employee_id = :employee;
		\else
		UPDATE legacy.employees SET reports_to = :boss, extension = NULL WHERE employee_id = :employee;
		\endif
		COMMIT;
		SQL
);
my $traffic;

subtest 'preflight finds all fourteen tables ready, and every row comes back the same' => sub {
	is(value($node, "SELECT stage FROM tandem.create_run('northwind', 'legacy', 'shop', hold => '500 ms')"), 'off', 'the run is there');
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$FindBin::Bin/northwind/mappings.sql" ],
		'the tables are mapped');
	is(value($node, 'SELECT count(*) FROM tandem.mappings'), 14, 'fourteen tables');
	is(value($node, "SELECT string_agg(concat_ws(' | ', status, detail, hint), E'\n') FROM tandem.preflight('northwind') WHERE status = 'CRITICAL' OR check_name = 'round_trip' AND status <> 'OK'"),
		'', 'nothing critical, no round trip loses anything');
	is(value($node, "SELECT count(*) FROM tandem.preflight('northwind') WHERE check_name = 'round_trip'"), 14, 'all round trips were tried');
	value($node, "SELECT tandem.set_option('northwind', o, v) FROM (VALUES ('batch_size', '250'), ('validate_every', '500 ms')) AS x (o, v)");
};

subtest 'the run starts under traffic, copies parents first, and validates clean' => sub {
	$traffic = traffic($node, 'the traffic', \%scripts, '--client=3', '--rate=150');
	is(value($node, "SELECT concat_ws(' ', stage, phase) FROM tandem.start('northwind')"), 'dualwrite progressing', 'it starts');
	becomes($node, "stage IN ('shadow', 'live') FROM tandem.runs", 'the backfill completes');
	is(value($node, <<~'SQL'), '', 'no table was copied before those that it references');
		SELECT string_agg(format('%s before %s', c.new, p.new), ', ')
		  FROM tandem.backfill_progress AS c, tandem.backfill_progress AS p, pg_constraint AS f
		 WHERE f.contype = 'f' AND f.conrelid = c.new::regclass AND f.confrelid = p.new::regclass AND c.new <> p.new AND c.started_at < p.finished_at
		SQL
	# How many of them the mirror had brought before depends on who was faster.
	my ($seen, $copied) = split /\|/, value($node, 'SELECT sum(rows_seen), sum(rows_copied) FROM tandem.backfill_progress');
	cmp_ok($seen, '>=', 3000, 'all rows were looked at by the backfill');
	cmp_ok($copied, '>', 0, "... and $copied came by it");
	cmp_ok(value($node, 'SELECT batches FROM tandem.backfill_progress WHERE legacy = $$legacy.order_details$$'), '>', 8, 'in batches');
};

subtest 'it goes to 100 % by itself while both sides stay equal' => sub {
	becomes($node, "weight = 100 FROM tandem.runs", 'weight 100');
	is(value($node, "SELECT string_agg(weight::text, ' ' ORDER BY seq) FROM tandem.events('northwind') WHERE kind = 'promote'"), '5 25 50 75 100', 'by its steps');
	is(value($node, "SELECT count(DISTINCT tandem.route('northwind', i::text)) || min(tandem.route('northwind', i::text)) FROM generate_series(1, 1000) AS i"),
		'1new', 'new serves every key');
	is(value($node, 'SELECT count(*) FROM tandem.differences'), 0, 'no comparison found a difference');
	# Before that, rows whose parents the backfill had not brought yet were refused: it brought them later.
	is(value($node, "SELECT coalesce(string_agg(f::text, E'\\n'), 'none') FROM tandem.mirror_failures AS f WHERE at > (SELECT at FROM tandem.events('northwind') WHERE kind = 'synced')"),
		'none', 'once all was copied, the new side refused no write');
	becomes($node, "string_agg(check_name || ' ' || status, ', ' ORDER BY check_name) = 'run OK, worker OK' FROM tandem.health WHERE check_name IN ('run', 'worker')", 'health says so');
};

subtest 'writes that one side cannot hold are refused, not cut' => sub {
	is(sqlstate($node, "INSERT INTO shop.sales_order (order_id, ship_to) VALUES (40000, '{}')"), '22003', 'a key beyond smallint');
	is(sqlstate($node, "INSERT INTO shop.customer (customer_code, company) VALUES ('TOOLO', repeat('x', 41))"), '22001', 'a text beyond varchar(40)');
	is(sqlstate($node, "INSERT INTO shop.customer (customer_code, company, contact_given) VALUES ('ANNAM', 'A', 'Anna Maria')"), '23514', 'a name that would split otherwise');
	is(sqlstate($node, 'TRUNCATE shop.state'), '55000', 'TRUNCATE, which no row trigger sees');
	is(sqlstate($node, "INSERT INTO shop.customer (customer_code, company, contact_given, contact_family) VALUES ('NEWCO', 'New & Co', 'Ann', 'van der Berg')"), '', 'what fits is written');
	is(value($node, "SELECT contact_name FROM legacy.customers WHERE customer_id = 'NEWCO'"), 'Ann van der Berg', 'and merged on the legacy side');
	is(sqlstate($node, 'INSERT INTO shop.category (name) VALUES ($$Taken$$)'), '', 'an identity that began at 1 was moved beyond the copied keys');
	is(sqlstate($node, "INSERT INTO legacy.categories VALUES (100, 'Seeds')"), '', 'a key given on the legacy side');
	is(value($node, 'SELECT name FROM shop.category WHERE category_id = 100'), 'Seeds', 'is written into the GENERATED ALWAYS column');
	is(value($node, 'SELECT count(*) FROM tandem.differences'), 0, 'still no difference');
};

my $corrupted;
subtest 'one row changed behind the mirror is found, and the run rolls itself back' => sub {
	$corrupted = value($node, <<~'SQL');
		BEGIN;
		SELECT format('ALTER TABLE shop.order_line DISABLE TRIGGER %I', tgname) FROM pg_trigger
		 WHERE tgrelid = 'shop.order_line'::regclass AND tgfoid = 'tandem.mirror()'::regprocedure AND tgtype & 1 = 1 \gexec
		UPDATE shop.order_line SET price = price + 0.01 WHERE (order_id, product_id) = (11077, 75);
		SELECT format('ALTER TABLE shop.order_line ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger
		 WHERE tgrelid = 'shop.order_line'::regclass AND tgenabled = 'D' \gexec
		COMMIT;
		SELECT clock_timestamp();
		SQL
	becomes($node, "phase = 'degraded' FROM tandem.runs", 'the run is rolled back');
	is(value($node, "SELECT DISTINCT concat_ws(' ', legacy_table, new_table, kind, key, columns, legacy, new) FROM tandem.differences"),
		'legacy.order_details shop.order_line changed {"order_id": 11077, "product_id": 75} {price} {"price": 7.75} {"price": 7.76}',
		'exactly that row, that column, and both values');
	is(state_of($node, 'northwind'), 'shadow degraded 0', 'stage shadow, weight 0');
	is(value($node, "SELECT string_agg(DISTINCT tandem.route('northwind', i::text), ' ') FROM generate_series(1, 1000) AS i"), 'legacy', 'legacy serves every key');
	is(value($node, "SELECT concat_ws(' ', kind, reason, evidence ->> 'guard', weight) FROM tandem.events('northwind') WHERE kind = 'rollback'"),
		'rollback guard any_difference: 1 difference any_difference 0', 'the event tells why');
	is(value($node, "SELECT count(DISTINCT started_at) FROM tandem.comparisons WHERE purpose = 'validate' AND started_at > '$corrupted' AND started_at <= (SELECT at FROM tandem.events('northwind') WHERE kind = 'rollback')"), 1,
		'by the first validation that began after the commit');
};

subtest 'the proof shows that nothing else differs' => sub {
	becomes($node, "verdict <> 'pending' FROM tandem.rollback_proofs", 'the proof is made');
	is(value($node, "SELECT concat_ws(' ', verdict, mappings, differences, unexplained, from_weight, automatic) FROM tandem.rollback_proofs"),
		'explained 14 1 0 100 t', 'fourteen mappings, one difference, the one that is known');
	is(sqlstate($node, "SELECT tandem.retry('northwind')"), '55000', 'retry is refused while the row differs');
	is(sqlstate($node, "SELECT tandem.promote('northwind')"), '55000', 'and so is promote');
};

subtest 'mended, it goes up again and completes' => sub {
	is(sqlstate($node, 'UPDATE shop.order_line SET price = 7.75 WHERE (order_id, product_id) = (11077, 75)'), '', 'the row is mended');
	is(value($node, "SELECT phase FROM tandem.retry('northwind', 'row mended')"), 'progressing', 'retry finds both sides equal');
	becomes($node, "weight = 100 FROM tandem.runs", 'weight 100 again');
	is(sqlstate($node, "SELECT tandem.complete('northwind', 'yes')"), '22023', 'complete() wants the name');
	is(value($node, "SELECT concat_ws(' ', stage, phase) FROM tandem.complete('northwind', 'northwind')"), 'complete succeeded', 'complete');
	finish_traffic($traffic, 300);
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'the mirrors are gone');
	is(sqlstate($node, 'DELETE FROM shop.state WHERE state_id = 1'), '', 'a write on the new side');
	is(value($node, 'SELECT count(*) FROM legacy.us_states'), 51, 'does not reach legacy any more');
	is(side_of($node, 'northwind', '10248'), 'new', 'new serves every key');
	is(sqlstate($node, "SELECT tandem.rollback('northwind', 'too late')"), '55000', 'and there is no way back');
	is(value($node, "SELECT count(*) FROM tandem.events('northwind') WHERE kind = 'rollback'"), 1, 'one rollback in all: no false alarm');
};

$node->stop;
done_testing();
