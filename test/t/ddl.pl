# A dump of a database with a run that is on, restored into another one: the event triggers disturb nothing, the run comes up paused with its dirty
# keys and sequences, and is watched again from the first verb on. Dropping databases and the extension is disturbed by nothing either.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('ddl', preload => 1, conf => "tandem.naptime = '100ms'\n");
$node->start;
value($node, 'CREATE DATABASE origin; CREATE DATABASE copy; CREATE DATABASE parallel; CREATE DATABASE clean');
$RunHelpers::database = 'origin';
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id serial PRIMARY KEY, v integer);
	CREATE TABLE store.item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v bigint CHECK (v < 1000));
	CREATE TABLE legacy.part (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE legacy.part_1 PARTITION OF legacy.part FOR VALUES FROM (0) TO (1000);
	CREATE TABLE store.part (id integer PRIMARY KEY, v text);
	INSERT INTO legacy.item (v) SELECT i FROM generate_series(1, 100) AS i;
	INSERT INTO legacy.part SELECT i, 'v' FROM generate_series(1, 100) AS i;
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour'), tandem.map_table('r', 'legacy.item', 'store.item'), tandem.map_table('r', 'legacy.part', 'store.part');
	SELECT tandem.set_option('r', 'dirty_backoff', '1 hour');
	SELECT tandem.start('r');
	SQL
becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is in shadow');
value($node, 'CREATE TABLE legacy.part_2 PARTITION OF legacy.part FOR VALUES FROM (1000) TO (2000); UPDATE legacy.item SET v = 5000 WHERE id = 7');
is(sqlstate($node, 'TRUNCATE legacy.part_2'), '55000', 'a partition that came later is guarded');
is(sqlstate($node, 'DROP SCHEMA store CASCADE'), '55006', 'a schema of mapped tables is not dropped');

my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$node->command_ok([ 'pg_dump', '--format=directory', '--file', $dump, $node->connstr('origin') ], 'pg_dump');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $node->connstr('copy'), $dump ], 'pg_restore');
$RunHelpers::database = 'copy';
becomes($node, "phase = 'paused' FROM tandem.runs", 'the run comes up paused');
is(value($node, 'SELECT key, state FROM tandem.dirty_keys'), '{"id": "7"}|pending', 'with its dirty key');
is(value($node, "SELECT string_agg(state, ',') FROM tandem.sequences"), 'takes turns,takes turns', 'and its sequences');
is(value($node, "SELECT string_agg(seqincrement::text, ',') FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid WHERE c.relname LIKE 'item%'"), '2,2', 'which still take turns');
is(value($node, 'SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE $$tandem%$$'), 4, 'the event triggers are there');
is(sqlstate($node, 'ALTER TABLE store.item RENAME COLUMN v TO w; ALTER TABLE store.item RENAME COLUMN w TO v'), '', 'before anybody moves the run DDL passes');
is(sqlstate($node, "SELECT tandem.resume('r')"), '', 'it is resumed');
is(sqlstate($node, 'ALTER TABLE store.item RENAME COLUMN v TO w'), '55006', 'and DDL is refused');
is(sqlstate($node, 'TRUNCATE legacy.part_2'), '55000', 'as TRUNCATE is');

# pg_restore knows nothing then of an order among the extension's tables
$node->command_ok([ 'pg_restore', '--exit-on-error', '--jobs=4', '--dbname', $node->connstr('parallel'), $dump ], 'pg_restore by four at a time');
$RunHelpers::database = 'parallel';
becomes($node, "phase = 'paused' FROM tandem.runs", 'the run is there');
is(value($node, 'SELECT key, state FROM tandem.dirty_keys'), '{"id": "7"}|pending', 'with its dirty key');
is(value($node, 'SELECT count(*) FROM tandem.backfill'), 2, 'and its backfill');
$RunHelpers::database = 'copy';

$node->command_ok([ 'pg_restore', '--exit-on-error', '--section=pre-data', '--dbname', $node->connstr('clean'), $dump ], 'sections of their own: before the data');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--section=data', '--dbname', $node->connstr('clean'), $dump ], '... the data');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--section=post-data', '--dbname', $node->connstr('clean'), $dump ], '... and after it');
is(sqlstate($node, 'DROP EXTENSION pg_tandem CASCADE'), '', 'the extension goes with all that it has');
is(sqlstate($node, 'DROP SCHEMA legacy, store CASCADE'), '', 'and then everything passes');
$RunHelpers::database = 'postgres';
is(sqlstate($node, 'DROP DATABASE origin'), '', 'a database is dropped with its runs');

$node->stop;
done_testing();
