# preflight() of a server: locks and transactions of other sessions, prepared transactions, the worker and its places, replication, archiving, disk, collation.
# Each is silent or well first, then it fires. What one session can bring about is in pgtap/preflight.
use strict;
use warnings;
use File::Basename qw(dirname);
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(__FILE__) . '/../..';
my $settings = "tandem.naptime = '200ms'\nautovacuum = off\nmax_prepared_transactions = 5\nmax_logical_replication_workers = 0\n";
my $node = tandem_node('primary', preload => 1, conf => $settings, init => [ allows_streaming => 1 ]);
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA a; CREATE SCHEMA b;
	CREATE TABLE a.t (id integer PRIMARY KEY); CREATE TABLE b.t (id integer PRIMARY KEY);
	CREATE TABLE a.u (id integer PRIMARY KEY); CREATE TABLE b.u (id integer PRIMARY KEY);
	SELECT FROM tandem.create_run('p', 'a', 'b');
	SELECT FROM tandem.map_table('p', 'a.t', 'b.t');
	SELECT FROM tandem.map_table('p', 'a.u', 'b.u');
	SQL
becomes($node, 'count(*) = 1 FROM tandem.worker', 'the worker is there');

my (%fired, %skipped); # the checks that were seen to fire, and those that cannot be brought about on this machine

# What a check says: its worst status with the detail, or nothing.
sub says
{
	my ($name) = @_;
	my $said = value($node, "SELECT status || ': ' || detail FROM tandem.preflight('p') WHERE check_name = '$name' ORDER BY array_position('{CRITICAL,WARNING,OK}', status), detail LIMIT 1");
	$fired{$name} = 1 if $said =~ /^(?:WARNING|CRITICAL): /;
	return $said;
}

# Another session with a transaction that stays open.
sub session
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe("BEGIN; $sql");
	return $session;
}

subtest 'locks' => sub {
	like(says('locks'), qr/^OK: /, 'nobody holds a table');
	my $other = session('LOCK TABLE a.t IN SHARE MODE');
	like(says('locks'), qr/^CRITICAL: a\.t: process \d+ of role \w+ holds ShareLock since /, 'somebody builds an index');
	$other->query_safe('ROLLBACK; BEGIN; INSERT INTO a.t VALUES (1)');
	like(says('locks'), qr/^OK: /, 'a writer is none who matters');
	value($node, "SELECT FROM tandem.set_option('p', 'lock_timeout', '1 ms')");
	like(says('locks'), qr/^WARNING: a\.t: process \d+ of role \w+ holds RowExclusiveLock since /, '... unless he takes longer than start() would wait');
	value($node, "SELECT FROM tandem.set_option('p', 'lock_timeout', '5 seconds')");
	$other->query_safe('ROLLBACK; BEGIN; LOCK TABLE b.t IN ACCESS EXCLUSIVE MODE');
	like(says('locks'), qr/^CRITICAL: b\.t: process \d+ of role \w+ holds AccessExclusiveLock since /, 'somebody changes a table');
	is(value($node, "SET statement_timeout = '20s'; SELECT string_agg(DISTINCT split_part(detail, ':', 1), ' ') FROM tandem.preflight('p') WHERE check_name = 'content'"), "a.u \xE2\x86\x92 b.u",
		'... of which nothing else is asked, as it would wait; the other tables are');
	$other->query_safe('ROLLBACK');
	$other->quit;
	like(says('locks'), qr/^OK: /, 'all is free again');
};

subtest 'transactions' => sub {
	like(says('transactions'), qr/^OK: /, 'none is old');
	my $other = session('INSERT INTO a.t VALUES (2)');
	like(says('transactions'), qr/^OK: /, 'a young one is none');
	value($node, "SELECT tandem.set_health_threshold('old_transaction', 0.001, 3600)");
	like(says('transactions'), qr/^WARNING: a transaction of role \w+ is open since .* \(process \d+\)$/, '... unless the threshold says so');
	value($node, "SELECT tandem.set_health_threshold('old_transaction', 300, 3600)");
	is(says('prepared'), '', 'nothing is prepared');
	$other->query_safe("PREPARE TRANSACTION 'left behind'");
	$other->quit;
	like(says('prepared'), qr/^CRITICAL: transaction "left behind" is prepared since .* and holds a\.t/, 'a prepared transaction that holds a table of the run');
	value($node, "ROLLBACK PREPARED 'left behind'");
	$other = session('CREATE TABLE elsewhere (i integer)');
	$other->query_safe("PREPARE TRANSACTION 'far'");
	$other->quit;
	like(says('prepared'), qr/^WARNING: transaction "far" is prepared since \S+ \S+$/, '... or another');
	value($node, "ROLLBACK PREPARED 'far'");
	is(says('prepared'), '', 'gone');
};

subtest 'the worker' => sub {
	becomes($node, "status = 'OK' AND detail = 'the worker serves this database' FROM tandem.preflight('p') WHERE check_name = 'worker'", 'it is at work');
	value($node, "SELECT tandem.set_health_threshold('worker', NULL, 0.0001)");
	like(says('worker'), qr/^WARNING: the last beat of the coordinator was at /, 'its beat is too old');
	value($node, "SELECT tandem.set_health_threshold('worker', NULL, 60)");
	like(says('processes'), qr/^OK: \d of max_worker_processes = 16 are in use$/, 'there is room');
	value($node, "CREATE SCHEMA c; CREATE SCHEMA d; CREATE TABLE c.t (id integer PRIMARY KEY); CREATE TABLE d.t (id integer PRIMARY KEY); SELECT FROM tandem.create_run('q', 'c', 'd'); SELECT FROM tandem.map_table('q', 'c.t', 'd.t'); SELECT FROM tandem.start('q')");
	$node->append_conf('postgresql.conf', "tandem.max_executors = 1\n");
	$node->reload;
	becomes($node, "current_setting('tandem.max_executors') = '1'", 'one run at a time');
	is(says('processes'), 'WARNING: 1 other run(s) are served, tandem.max_executors is 1: they take turns', '... and there is one');
	value($node, "SELECT FROM tandem.cancel('q')");
	$node->append_conf('postgresql.conf', "max_worker_processes = 2\ntandem.max_executors = 4\n");
	$node->restart;
	becomes($node, "detail LIKE '% of max_worker_processes = 2 are in use' AND status = 'WARNING' FROM tandem.preflight('p') WHERE check_name = 'processes'", 'no room for the run');
	$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
	$node->restart;
	value($node, "DELETE FROM tandem.worker");
	becomes($node, "detail = 'there is no place for the coordinator: 1 of 1 processes are in use' AND status = 'CRITICAL' FROM tandem.preflight('p') WHERE check_name = 'worker'", 'none for the coordinator');
	is(sqlstate($node, "SELECT tandem.start('p')"), '55000', '... and the run does not start');
	$node->append_conf('postgresql.conf', "max_worker_processes = 16\n");
	$node->restart;
	becomes($node, "status = 'OK' FROM tandem.preflight('p') WHERE check_name = 'worker'", 'well again');
	is(value($node, "SELECT status FROM tandem.preflight('p') WHERE check_name = 'settings' AND detail = 'autovacuum is off'"), 'WARNING', 'a setting that a run needs');
	$node->append_conf('postgresql.conf', "autovacuum = on\n");
	$node->reload;
	becomes($node, "count(*) = 0 FROM tandem.preflight('p') WHERE check_name = 'settings' AND detail = 'autovacuum is off'", '... is on');
};

subtest 'what a crash would destroy' => sub {
	my $warns = "SELECT string_agg(status || ': ' || detail, ', ') FROM tandem.preflight('p') WHERE check_name = 'settings'";
	foreach my $setting ('fsync', 'full_page_writes')
	{
		$node->append_conf('postgresql.conf', "fsync = on\nfull_page_writes = on\n");
		$node->restart;
		is(value($node, $warns), '', "$setting is on");
		$node->append_conf('postgresql.conf', "$setting = off\n");
		$node->restart;
		is(value($node, $warns), "WARNING: $setting is off", '... and off');
	}
	$node->append_conf('postgresql.conf', "fsync = off\nfull_page_writes = on\n"); # as the other tests have it
	$node->restart;
};

subtest 'replication' => sub {
	is(says('replication'), 'OK: no standby is connected', 'no standby');
	$node->backup('copy');
	my $standby = tandem_node('standby', from_backup => [ $node, 'copy', has_streaming => 1 ]);
	$standby->start;
	$node->wait_for_catchup($standby);
	like(says('replication'), qr/^OK: 1 standby\(s\), \S+ \w+ behind at most/, 'one that follows');
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
	value($node, "SELECT pg_create_physical_replication_slot('nobody', true)");
	value($node, "SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()") for 1 .. 18;
	becomes($node, "bool_or(status = 'WARNING' AND detail ~ '^1 standby\\(s\\), \\d+ MB behind at most') FROM tandem.preflight('p') WHERE check_name = 'replication'", 'one that does not');
	is(value($node, "SELECT count(*) FROM tandem.preflight('p') WHERE check_name = 'replication' AND status = 'WARNING' AND detail ~ '^replication slot nobody keeps \\d+ MB of log, and nobody reads it\$'"), 1, 'a slot that nobody reads')
	  and $fired{replication} = 1;
	value($node, "SELECT pg_drop_replication_slot('nobody')");
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	$node->wait_for_catchup($standby, 'replay');
	becomes($node, "bool_and(status = 'OK') FROM tandem.preflight('p') WHERE check_name = 'replication'", 'both are well again');
	is($standby->safe_psql('postgres', "SELECT string_agg(status || ': ' || detail, '') FROM tandem.preflight('p') WHERE check_name = 'recovery'"), 'CRITICAL: this server is a standby', 'a standby can be asked, and says that it is one')
	  and $fired{recovery} = 1;
	$standby->stop;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'elsewhere'\n");
	$node->reload;
	becomes($node, "bool_or(status = 'CRITICAL' AND detail = 'synchronous_standby_names is set, and no such standby is connected: every commit waits') FROM tandem.preflight('p') WHERE check_name = 'replication'", 'commits that wait');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$node->reload;
	becomes($node, "bool_and(status = 'OK') FROM tandem.preflight('p') WHERE check_name = 'replication'", '... no more');
};

subtest 'archiving' => sub {
	is(value($node, "SELECT count(*) FROM tandem.preflight('p') WHERE check_name = 'backup' AND status <> 'OK'"), 0, 'nothing is archived, nothing fails');
	$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'false'\n");
	$node->restart;
	value($node, "SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()");
	becomes($node, "count(*) = 1 FROM tandem.preflight('p') WHERE check_name = 'backup' AND status = 'WARNING' AND detail LIKE 'archiving has failed since %'", 'archiving fails');
	$node->append_conf('postgresql.conf', "archive_command = 'true'\n");
	$node->reload;
	becomes($node, "count(*) = 0 FROM tandem.preflight('p') WHERE check_name = 'backup' AND status <> 'OK'", '... no more');
};

subtest 'disk' => sub {
	like(says('disk'), qr/^OK: about \S+ \w+ are to be copied, with as much log; /, 'there is room');
	# A table that looks as if it were larger than the disk: files with a length, and nothing in them.
	my ($file, $free) = split /\|/, value($node, "SELECT pg_relation_filepath('a.t'), disk_free FROM tandem.host_facts()");
	my $path = $node->data_dir . "/$file";
	my $pieces = int($free / 2**30) + 2;
  SKIP: {
		$skipped{disk} = 1 if $pieces > 20_000;
		skip 'the disk is too large for that', 2 if $pieces > 20_000;
		foreach my $i (1 .. $pieces)
		{
			open my $piece, '>', "$path.$i" or die "$path.$i: $!";
			truncate $piece, 2**30 or die "$path.$i: $!";
			close $piece;
		}
		# The first piece, too: sizes are added up until a piece is missing.
		like(says('disk'), qr/^CRITICAL: about \d+ [GT]B are to be copied, with as much log; \d+ .B of \d+ .B are free/, 'there is not');
		unlink map { "$path.$_" } 1 .. $pieces;
		like(says('disk'), qr/^OK: /, 'there is again');
	}
};

subtest 'collation' => sub {
  SKIP: {
		my ($status) = $node->psql('postgres', "CREATE DATABASE letters TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'");
		$skipped{collation} = 1 if $status != 0;
		skip 'a server without ICU', 2 if $status != 0;
		local $RunHelpers::database = 'letters';
		value($node, "CREATE EXTENSION pg_tandem; CREATE SCHEMA a; CREATE SCHEMA b; SELECT FROM tandem.create_run('p', 'a', 'b')");
		is(says('collation'), '', 'its version is the one that it was made with');
		value($node, "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'letters'");
		like(says('collation'), qr/^WARNING: the database's collation has version \S+, its indexes were made with 0\.1$/, 'another version of the library');
	}
};

subtest 'each check that the page names was seen to fire' => sub {
	my $page = slurp_file("$root/docs/preflight.md");
	my @named = map { /`(\w+)`/g } $page =~ /^\| ((?:`\w+`(?:, )?)+) \|/mg;
	cmp_ok(scalar @named, '>', 30, 'the page names many');
	# pgtap/preflight has a test that exactly these fired there, and some that depend on the server.
	my ($there) = slurp_file("$root/test/pgtap/preflight.sql") =~ /'\{([\w,]+)\}',\n\s+'the checks that fired'\)/;
	my %seen = (%fired, map { $_ => 1 } split(/,/, $there), 'owner', 'capture');
	my %elsewhere = (
		generated => 'virtual generated columns are of PostgreSQL 18: pgtap/preflight has it there',
		siblings => 'several new tables of one legacy table: pgtap/mirror_hazard');
	is(join(' ', grep { !$seen{$_} && !$elsewhere{$_} && !$skipped{$_} } @named), '', 'each of them fired');
	my %known = map { $_ => 1 } @named;
	is(join(' ', grep { !$known{$_} } sort keys %seen), '', 'and each that fired is named there');
	is(value($node, "SELECT string_agg(DISTINCT check_name, ' ' ORDER BY check_name) FROM tandem.preflight('p') WHERE check_name <> ALL ('{" . join(',', @named) . "}')"), '', '... or was well');
};

$node->stop;
done_testing();
