# The worker: what works without it; launcher, coordinator and executor; whose rights it has; how it fails and recovers; how it keeps out
# of the way of DROP DATABASE and its like; standbys; dump and restore.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

# In $RunHelpers::database: five rows in legacy.item, mapped by run r to store.item. FORWARD adds expressions. As is, not yet started.
sub make_run
{
	my ($node, $forward) = @_;
	$forward //= '';
	value($node, <<~"SQL");
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS pg_tandem;
		CREATE SCHEMA legacy;
		CREATE SCHEMA store;
		CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer);
		CREATE TABLE store.item (item_id bigint PRIMARY KEY, name text, qty bigint, note text);
		INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 5) AS i;
		SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour', steps => '{50,100}');
		SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id" $forward}');
		SELECT tandem.set_option('r', 'validate_every', '200 ms');
		SQL
	return;
}

sub in_database { ($RunHelpers::database) = @_; return; }

# A test: SQL answers, though the worker is there; who waited for it would wait for good.
sub quickly
{
	my ($node, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sqlstate($node, "SET statement_timeout = '60s';\n$sql"), '', $sql);
	return;
}

subtest 'without preload the extension says what is missing, and tick() does it all' => sub {
	my $bare = tandem_node('bare');
	$bare->start;
	my ($status, undef, $said) = $bare->psql('postgres', 'CREATE EXTENSION pg_tandem');
	is($status, 0, 'CREATE EXTENSION works');
	like($said, qr/WARNING:  pg_tandem is installed without its worker/, 'it says that there is no worker');
	like($said, qr/DETAIL:.*nothing backfills, validates, promotes or rolls back by itself/, 'what that means');
	like($said, qr/HINT:.*shared_preload_libraries.*tandem\.tick\(\)/, 'and what to do');
	in_database('postgres');
	make_run($bare);
	is(value($bare, "SELECT status FROM tandem.preflight('r') WHERE check_name = 'worker'"), 'WARNING', 'so does preflight');
	is(value($bare, "SELECT status FROM tandem.health WHERE check_name = 'worker'"), 'WARNING', 'and health');
	is(workers($bare), 'none', 'indeed, nobody is there');
	value($bare, "SELECT tandem.start('r'), tandem.set_option('r', 'validate_every', '0')");
	value($bare, "UPDATE tandem.run SET hold = '0'");
	my @did;
	for (1 .. 20)
	{
		push @did, split /\n/, value($bare, 'SELECT did FROM tandem.tick()');
		last if value($bare, 'SELECT weight FROM tandem.runs') eq '100';
	}
	is(state_of($bare, 'r'), 'live progressing 100', 'ticks take the run to 100 %') or diag(explain(\@did));
	is($did[0], 'backfill: 5 rows', 'beginning with the backfill');
	value($bare, 'ALTER TABLE store.item DISABLE TRIGGER ALL; UPDATE store.item SET qty = 0 WHERE item_id = 1');
	like(value($bare, 'SELECT did FROM tandem.tick()'), qr/1 difference/, 'a tick finds a difference');
	is(state_of($bare, 'r'), 'shadow degraded 0', 'and rolls back');
	is(value($bare, 'SELECT did FROM tandem.tick()'), 'proof of the rollback', 'the next one proves it');
	$bare->stop;
};

my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\nmax_worker_processes = 24\ntandem.max_executors = 8\n",
	init => [ allows_streaming => 1 ]);
$node->start;

subtest 'launcher, coordinator and executor appear when there is work for them, and leave after it' => sub {
	in_database('postgres');
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' AND datname IS NULL", 'a launcher, from the start');
	value($node, 'CREATE DATABASE tiers');
	in_database('tiers');
	is(workers($node), 'launcher', 'nothing else');
	my ($status, undef, $said) = $node->psql('tiers', 'CREATE EXTENSION pg_tandem');
	is($said, '', 'CREATE EXTENSION has nothing to say');
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_tandem coordinator' AND datname = 'tiers'", 'CREATE EXTENSION brings a coordinator');
	make_run($node);
	is(value($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'"), 0, 'a run that is not started has no executor');
	value($node, "SELECT tandem.start('r')");
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'a started one is served');
	is(workers($node), 'coordinator, executor, launcher', 'by an executor');
	becomes($node, "string_agg(check_name || ' ' || status, ', ' ORDER BY check_name) = 'run OK, worker OK' FROM tandem.health WHERE check_name IN ('run', 'worker')", 'health is OK');
	value($node, "SELECT tandem.cancel('r')");
	becomes($node, "count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor' AND datname = 'tiers'", 'it leaves when the run is cancelled');
	value($node, 'DROP EXTENSION pg_tandem');
	becomes($node, "count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' AND datname = 'tiers'", 'and the coordinator with the extension');
};

subtest 'a run owned by an ordinary role is served with the rights of that role, whoever writes' => sub {
	in_database('postgres');
	value($node, <<~'SQL');
		CREATE ROLE app LOGIN;
		CREATE ROLE clerk LOGIN;
		CREATE ROLE auditor LOGIN;
		CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
		CREATE DATABASE owned;
		SQL
	in_database('owned');
	value($node, <<~'SQL');
		SET client_min_messages = warning;
		CREATE EXTENSION pg_tandem;
		SELECT tandem.grant_role('app', 'operator'), tandem.grant_role('auditor', 'viewer');
		CREATE SCHEMA legacy AUTHORIZATION app;
		CREATE SCHEMA store AUTHORIZATION app;
		SET ROLE app;
		CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer);
		CREATE TABLE store.item (item_id bigint PRIMARY KEY, name text, qty bigint, note text);
		INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 5) AS i;
		GRANT USAGE ON SCHEMA legacy TO clerk;
		GRANT INSERT, SELECT ON legacy.item TO clerk;
		-- Tries what its owner may not, and tells who it was and how it went.
		CREATE FUNCTION legacy.spy(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
		DECLARE
		    result text := current_user;
		BEGIN
		    BEGIN
		        PERFORM rolpassword FROM pg_catalog.pg_authid;
		        result := result || ', read pg_authid';
		    EXCEPTION WHEN OTHERS THEN result := result || ' ' || SQLSTATE;
		    END;
		    BEGIN
		        PERFORM set_config('role', (SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper ORDER BY oid LIMIT 1), true);
		        result := result || ', became ' || current_user;
		    EXCEPTION WHEN OTHERS THEN result := result || ' ' || SQLSTATE;
		    END;
		    BEGIN
		        PERFORM set_config('session_authorization', (SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper ORDER BY oid LIMIT 1), true);
		        result := result || ', became ' || session_user;
		    EXCEPTION WHEN OTHERS THEN result := result || ' ' || SQLSTATE;
		    END;
		    RETURN result;
		END $$;
		SQL
	my $as = sub { my ($role, $sql) = @_; return $node->safe_psql('owned', $sql, connstr => $node->connstr('owned') . " user=$role"); };
	$as->('app', <<~'SQL');
		SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour', steps => '{50,100}');
		SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "note": "legacy.spy(name)"}');
		SELECT tandem.set_option('r', 'validate_every', '200 ms');
		SELECT tandem.start('r');
		SQL
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is served');
	is(value($node, "SELECT usename FROM pg_stat_activity WHERE datname = 'owned' AND backend_type = 'pg_tandem executor'"), 'app', 'the executor is connected as its owner');
	$as->('clerk', "INSERT INTO legacy.item VALUES (6, 'by the clerk', 6)");
	value($node, "INSERT INTO legacy.item VALUES (7, 'by a superuser', 7)");
	is(value($node, 'SELECT DISTINCT note FROM store.item'), 'app 42501 42501 42501',
		'what the owner wrote runs as the owner and can do no more, in the backfill and in the mirror of anybody');
	my $now = value($node, 'SELECT clock_timestamp()');
	becomes($node, "validated_at > '$now' FROM tandem.runs WHERE differences = 0", 'and in comparisons');
	foreach my $view (qw(runs mappings backfill_progress comparisons differences rollback_proofs mirror_failures health))
	{
		is(join(' ', map { sqlstate_as($_, "SELECT * FROM tandem.$view") } 'app', 'auditor'), ' ', "operator and viewer may read tandem.$view");
	}
	is(sqlstate_as('monitor', "SELECT * FROM tandem.runs, tandem.health, tandem.mappings"), '', 'so may pg_monitor');
	is(sqlstate_as('auditor', "SELECT tandem.pause('r')"), '42501', 'a viewer only views');
	is(sqlstate_as('clerk', "SELECT tandem.status('r')"), '42501', 'who has no level may not look');
	is(sqlstate_as('clerk', 'INSERT INTO store.item VALUES (8)'), '42501', 'nor write the new side directly');
	is(sqlstate_as('app', "SELECT tandem.grant_role('clerk', 'admin')"), '42501', 'an operator is no admin');
	is(sqlstate_as('app', "UPDATE tandem.run SET weight = 100"), '42501', 'nor may it write the tables of the extension');
	is($as->('app', "SELECT weight FROM tandem.promote('r', 100)"), 100, 'the owner promotes');
	becomes($node, "validated_at > moved_at FROM tandem.runs", 'the worker validates');
	$as->('app', "SELECT tandem.rollback('r', 'to see it')");
	is($as->('app', "SELECT stage, tandem.route('r', '1') FROM tandem.runs"), 'shadow|legacy', 'the owner rolls back');
	becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", 'the worker proves it');
	is($as->('app', "SELECT phase FROM tandem.retry('r')"), 'progressing', 'the owner retries');
	$as->('app', "SELECT tandem.promote('r', 100)");
	is($as->('app', "SELECT stage FROM tandem.complete('r', 'r')"), 'complete', 'and completes');
};

sub sqlstate_as
{
	my ($role, $sql) = @_;
	my (undef, undef, $err) =
	  $node->psql($RunHelpers::database, $sql, connstr => $node->connstr($RunHelpers::database) . " user=$role", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err =~ /ERROR:  (\w{5})/ ? $1 : '';
}

subtest 'a row on which a mapping fails rolls the run back, and says why' => sub {
	in_database('postgres');
	value($node, 'CREATE DATABASE failing');
	in_database('failing');
	make_run($node, ', "note": "(1000 / qty)::text"');
	value($node, "SELECT tandem.start('r')");
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is in shadow');
	is(sqlstate($node, "INSERT INTO legacy.item VALUES (6, 'six', 0)"), '', 'in shadow a row on which the expression fails does not fail its writer');
	is(value($node, 'SELECT event, sqlstate, legacy_row FROM tandem.mirror_failures'), 'INSERT|22012|(6,six,0)', 'the mirror keeps it');
	becomes($node, "phase = 'degraded' FROM tandem.runs", 'the round rolls the run back: such a row is a difference');
	is(value($node, "SELECT kind, columns, legacy ->> 'error', legacy ->> 'sqlstate' FROM tandem.differences ORDER BY id LIMIT 1"), 'error|{note}|division by zero|22012', 'which says why');
	is(sqlstate($node, "SELECT tandem.promote('r')"), '55000', 'nobody promotes what cannot be compared');
	is(sqlstate($node, 'DELETE FROM legacy.item WHERE id = 6'), '', 'the row is mended');
	becomes($node, 'count(*) > 0 FROM tandem.rollback_proofs WHERE verdict IS NOT NULL', 'the worker proves the rollback');
	is(value($node, "SELECT phase FROM tandem.retry('r')"), 'progressing', 'and the run goes on');
	is(value($node, "SELECT weight FROM tandem.promote('r')"), 50, 'and the run can be promoted');
	is(sqlstate($node, "INSERT INTO legacy.item VALUES (7, 'seven', 0)"), '22012', 'in live such a write is refused');
};

subtest 'DROP EXTENSION while a run is on' => sub {
	in_database('failing');
	is(sqlstate($node, 'DROP EXTENSION pg_tandem'), '2BP01', 'the mirrors stand in the way');
	quickly($node, 'DROP EXTENSION pg_tandem CASCADE');
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"), 0, 'CASCADE takes them along');
	is(sqlstate($node, "UPDATE legacy.item SET qty = 100"), '', 'the tables are as they were before');
	becomes($node, "count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' AND datname = 'failing'", 'the workers leave');
	value($node, 'SET client_min_messages = warning; CREATE EXTENSION pg_tandem');
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_tandem coordinator' AND datname = 'failing'", 'and come back with it');
	quickly($node, 'BEGIN; DROP EXTENSION pg_tandem; CREATE EXTENSION pg_tandem; COMMIT');
};

subtest 'two databases have the extension, each with a run of the same name' => sub {
	foreach my $database ('one', 'two')
	{
		in_database('postgres');
		value($node, "CREATE DATABASE $database");
		in_database($database);
		make_run($node);
		value($node, "SELECT tandem.start('r')");
	}
	foreach my $database ('one', 'two')
	{
		in_database($database);
		becomes($node, "stage = 'shadow' FROM tandem.runs", "the run of $database is served");
	}
	value($node, "SELECT tandem.promote('r', 100)");
	is(side_of($node, 'r', '1'), 'new', 'a promotion in two');
	in_database('one');
	is(side_of($node, 'r', '1'), 'legacy', 'is none in one');
};

subtest 'statements that need a database for themselves get it' => sub {
	in_database('postgres');
	quickly($node, 'CREATE DATABASE copy_of_one TEMPLATE one');
	quickly($node, 'ALTER DATABASE one RENAME TO uno');
	quickly($node, 'DROP DATABASE two');
	is(sqlstate($node, 'DROP DATABASE postgres'), '55006', 'what cannot be done is refused as ever');
	quickly($node, 'CREATE DATABASE plain');
	quickly($node, 'DROP DATABASE plain');
	in_database('uno');
	becomes($node, "count(*) = 2 FROM pg_stat_activity WHERE datname = 'uno' AND backend_type LIKE 'pg_tandem %'", 'the workers come back to the renamed one');
	in_database('copy_of_one');
	becomes($node, "phase = 'paused' FROM tandem.runs", 'the run of a copy is paused: nobody asked for it there');
	is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind = 'restored'"), 1, 'an event says why');
	is(value($node, "SELECT phase FROM tandem.resume('r')"), 'progressing', 'resume() lets it go on');
	becomes($node, "validated_at > moved_at FROM tandem.runs", 'and it is served');
	in_database('postgres');
	quickly($node, 'DROP DATABASE copy_of_one WITH (FORCE)');
};

subtest 'a dump carries the run; where it is restored it waits for its people' => sub {
	in_database('uno');
	value($node, "SELECT tandem.promote('r')");
	my $folder = PostgreSQL::Test::Utils::tempdir('dump');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", '-d', $node->connstr('uno') ], 'the dump is made');
	my $routes = "SELECT string_agg(tandem.route('r', i::text), ' ' ORDER BY i) FROM generate_series(1, 100) AS i";
	my $state = "SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs";
	my ($routed, $epoch) = (value($node, $routes), value($node, 'SELECT epoch FROM tandem.runs'));
	in_database('postgres');
	value($node, 'CREATE DATABASE restored');
	in_database('restored');
	my $restore = sub { $node->command_ok([ 'pg_restore', '--exit-on-error', @_, '-d', $node->connstr('restored'), "$folder/dump" ], "pg_restore @_"); };
	# The worker is there as soon as the extension is, long before all rows are.
	$restore->('--section=pre-data');
	$restore->('--section=data', '-n', 'tandem');
	$restore->('--section=data', '-n', 'legacy');
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE datname = 'restored' AND backend_type = 'pg_tandem coordinator'", 'a coordinator is there in the middle of it');
	sleep 2;
	is(value($node, 'SELECT count(*) FROM tandem.rollback_proofs'), 0, 'half a restore is no reason to roll back');
	$restore->('--section=data', '-n', 'store');
	$restore->('--section=post-data');
	is(value($node, $state), 'live paused 50', 'the run is paused at its stage and weight');
	cmp_ok(value($node, 'SELECT epoch FROM tandem.runs'), '>', $epoch, 'in a new epoch');
	is(value($node, $routes), $routed, 'every key is routed as before');
	is(value($node, "SELECT string_agg(concat_ws(' ', tgenabled, tgrelid::regclass), ', ' ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"),
		'A legacy.item, A legacy.item, A store.item, A store.item', 'the mirrors are there, and always on');
	is(sqlstate($node, "INSERT INTO store.item VALUES (100, 'after the restore', 1)"), '', 'a write');
	is(value($node, 'SELECT name FROM legacy.item WHERE id = 100'), 'after the restore', 'is mirrored');
	is(value($node, 'SELECT waiting_for FROM tandem.runs'), 'resume()', 'it waits for resume()');
	is(value($node, "SELECT phase FROM tandem.resume('r')"), 'progressing', 'resume() lets it go on');
	becomes($node, "validated_at > moved_at AND differences = 0 FROM tandem.runs", 'and it is validated');
	is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind = 'rollback'"), 0, 'without any rollback');
	is(value($node, "SELECT count(*) > 5 FROM tandem.events('r')"), 't', 'its history came along');
};

subtest 'a standby shows and routes; after its promotion the worker is there' => sub {
	in_database('uno');
	value($node, "SELECT tandem.promote('r')");
	$node->backup('for_standby');
	my $standby = tandem_node('standby', from_backup => [ $node, 'for_standby', has_streaming => 1 ]);
	# What its transactions can see stays on the primary: else they are ended for being in the way of what arrives.
	$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1\n");
	$standby->start;
	$node->wait_for_catchup($standby);
	is(workers($standby), 'none', 'no worker runs on a standby');
	foreach my $relation (qw(runs mappings backfill_progress comparisons differences rollback_proofs mirror_failures health event))
	{
		is(sqlstate($standby, "SELECT * FROM tandem.$relation"), '', "tandem.$relation can be read");
	}
	is(value($standby, "SELECT stage FROM tandem.status('r')"), 'live', 'so can the status');
	is(sqlstate($standby, "SELECT tandem.$_"), '25006', "$_ says that it cannot write")
		foreach "append_event('x')", "task_create('x')", "task_claim('w')", 'task_notify()', 'export_state_json()', "grant_role(current_user, 'viewer')";
	is(value($standby, "SELECT count(*) FROM tandem.diff('legacy.item', 'store.item', columns => '{\"item_id\": \"id\"}')"), 0, 'diff() compares on a standby');
	my $session = $standby->background_psql('uno');
	is($session->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tandem.route('r', '1')"), 'new', 'a transaction on the standby is routed to new');
	sleep 2;
	value($node, "SELECT tandem.rollback('r', 'seen from a standby')");
	$node->wait_for_catchup($standby);
	is($session->query("SELECT tandem.route('r', '1')"), 'legacy', 'its next statement after the rollback has arrived, to legacy');
	$session->quit;
	is(sqlstate($standby, "SELECT tandem.promote('r')"), '25006', 'verbs are for the primary');
	is(sqlstate($standby, "SELECT tandem.start('r', dry_run => true)"), '25006', 'all of them');
	becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", 'the primary proves the rollback');
	value($node, "SELECT tandem.retry('r')");
	$node->wait_for_catchup($standby);
	$node->stop;
	my $promoted_at = value($standby, 'SELECT clock_timestamp()');
	$standby->promote;
	becomes($standby, "count(*) = 2 FROM pg_stat_activity WHERE datname = 'uno' AND backend_type LIKE 'pg_tandem %'", 'after promotion the worker is there');
	becomes($standby, "validated_at > '$promoted_at' FROM tandem.runs", 'and validates');
	is(state_of($standby, 'r'), 'shadow progressing 0', 'the run goes on where it stood');
	$standby->stop;
};

done_testing();
