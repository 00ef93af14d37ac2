# schedule() on the real pg_cron, as Debian packages it (TANDEM_PACKAGES): jobs that pg_cron really ran, as the run's owner; without pg_cron, with pg_cron in
# another database, with somebody else's "cron"; an operator who leaves; a dump restored where pg_cron is and where it is not.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

tandem_package('usr/lib/postgresql/*/lib/pg_cron.so') or plan skip_all => 'the package of pg_cron could not be fetched';

sub in_database { ($RunHelpers::database) = @_; return; }

# What SQL fails with, and its HINT.
sub refused
{
	my ($node, $sql) = @_;
	my ($status, $out, $err) = $node->psql($RunHelpers::database, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	my ($state) = $err =~ /ERROR:  ([0-9A-Z]{5}): /;
	my ($hint) = $err =~ /HINT:  (.*?)(?:\n(?:CONTEXT|LOCATION|psql):|\z)/s;
	return ($state // "none: $err", $hint // '');
}

# What health says of the run's jobs.
sub health
{
	my ($node) = @_;
	return value($node, q{SELECT concat_ws(' ', status, value, message) FROM tandem.health WHERE check_name = 'schedules' AND run IS NOT NULL});
}

my $conf = "cron.use_background_workers = on\ncron.database_name = 'postgres'\ntandem.naptime = '200ms'\n";
my $node = tandem_node('cron', preload => 1, also => 'pg_cron', conf => $conf);
$node->start;
value($node, 'CREATE EXTENSION pg_cron; CREATE EXTENSION pg_tandem');
my $version = value($node, "SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'");
my $seconds = $version !~ /^1\.[0-4]\b/;
diag("pg_cron $version");

# A run in stage live, of a role that is no superuser; another role schedules.
value($node, <<~'SQL');
	CREATE ROLE boss LOGIN;
	CREATE ROLE helper LOGIN;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	GRANT CREATE ON DATABASE postgres TO boss;
	SELECT tandem.grant_role('boss', 'operator'), tandem.grant_role('helper', 'operator');
	SET ROLE boss;
	CREATE SCHEMA old; CREATE SCHEMA shiny;
	CREATE TABLE old.t (id integer PRIMARY KEY, v text);
	CREATE TABLE shiny.t (id integer PRIMARY KEY, v text);
	INSERT INTO old.t SELECT i, i FROM generate_series(1, 100) AS i;
	SELECT tandem.create_run('it''s "a" run', 'old', 'shiny', hold => '0', steps => '{100}'), tandem.map_table('it''s "a" run', 'old.t', 'shiny.t');
	SELECT tandem.add_check('it''s "a" run', 'rows', 'SELECT count(*) FROM old.t', 'SELECT count(*) FROM shiny.t'), tandem.set_option('it''s "a" run', 'reconcile_every', '0'); -- no check but by pg_cron
	SELECT tandem.set_option('it''s "a" run', 'validate_every', '1 hour'), tandem.set_option('it''s "a" run', 'daily_report', 'off'), tandem.start('it''s "a" run');
	SQL
becomes($node, "stage = 'live' FROM tandem.runs", 'a run is live');

subtest 'what is refused' => sub {
	my ($state, $hint) = refused($node, q{SELECT tandem.schedule('it''s "a" run', 'reconcile', 'every day')});
	is($state, '22023', 'a time that pg_cron does not know');
	like($hint, qr/30 3 \* \* \*/, '... and how one is written');
	($state, $hint) = refused($node, q{SELECT tandem.schedule('it''s "a" run', 'sing', '* * * * *')});
	is($state, '22023', 'a job that is none');
	like($hint, qr/reconcile .*, validate .*, daily_report, tick/, '... and what there is');
	is(sqlstate($node, q{SELECT tandem.schedule('nix', 'tick', '* * * * *')}), '42704', 'a run that is none');
	is(sqlstate($node, q{SELECT tandem.schedule(NULL, 'reconcile', '* * * * *')}), '22004', 'a run is named');
	is(sqlstate($node, q{SELECT tandem.schedule('it''s "a" run', 'tick', NULL)}), '22004', 'a time, too');
	is(sqlstate($node, q{SET ROLE stranger; SELECT tandem.schedule('it''s "a" run', 'tick', '* * * * *')}), '42501', 'a stranger');
	is(sqlstate($node, q{SET ROLE stranger; SELECT tandem.run_job('it''s "a" run', 'tick')}), '42501', '... runs no job either');
	is(sqlstate($node, q{SELECT tandem.unschedule('it''s "a" run', 'tick')}), '42704', 'what is not scheduled is not taken back');
	is(value($node, 'SELECT count(*) FROM cron.job'), 0, 'nothing of that came to pg_cron');
};

my $every = $seconds ? '2 seconds' : '* * * * *';
my $before = value($node, 'SELECT clock_timestamp()');
value($node, qq{SET ROLE helper; SELECT tandem.schedule('it''s "a" run', 'reconcile', '$every'), tandem.schedule('it''s "a" run', 'daily_report', '\@reboot'), tandem.schedule(NULL, 'tick', '$every')});

subtest 'as pg_cron has them' => sub {
	is(value($node, q{SELECT string_agg(concat_ws('|', command, database, username, active), E'\n' ORDER BY jobid) FROM cron.job}),
		qq{SELECT tandem.run_job('it''s "a" run', 'reconcile')|postgres|boss|t\nSELECT tandem.run_job('it''s "a" run', 'daily_report')|postgres|boss|t\nSELECT tandem.run_job(NULL, 'tick')|postgres|helper|t},
		q{jobs of a run run as its owner, rounds of all runs as who scheduled them});
	is(value($node, q{SET ROLE watcher; SELECT string_agg(concat_ws('|', run, job, role, state, scheduled_by), E'\n' ORDER BY cron_job) FROM tandem.schedules}),
		qq{it's "a" run|reconcile|boss|active|helper\nit's "a" run|daily_report|boss|active|helper\ntick|helper|active|helper}, 'pg_monitor sees them');
	my $id = value($node, q{SELECT cron_job FROM tandem.schedules WHERE job = 'daily_report'});
	is(value($node, q{SELECT tandem.schedule('it''s "a" run', 'daily_report', '0 6 * * *')}), $id, 'scheduled again: the same job');
	is(value($node, "SELECT schedule FROM cron.job WHERE jobid = $id"), '0 6 * * *', '... at another time');
	value($node, "UPDATE cron.job SET active = false WHERE jobid = $id");
	is(value($node, "SELECT state FROM tandem.schedules WHERE cron_job = $id"), 'inactive', 'switched off by hand');
	is(health($node), q{WARNING 1 daily_report: switched off by hand}, '... is a warning');
	is(value($node, q{SELECT tandem.schedule('it''s "a" run', 'daily_report', '@reboot')}), $id, 'and on again');
	is(value($node, "SELECT state FROM tandem.schedules WHERE cron_job = $id"), 'active', '... it is active');
	is(health($node), q{OK 0 all of 2 job(s) of pg_cron}, '... and all is well');
	is(value($node, "SELECT status FROM tandem.health WHERE check_name = 'schedules' AND run IS NULL"), 'OK', '... also of the job of no run');
	is(value($node, q{SELECT string_agg(concat_ws('|', role, evidence ->> 'job', evidence ->> 'cron'), ' ' ORDER BY seq) FROM tandem.event WHERE kind = 'schedule' AND evidence ->> 'job' = 'daily_report'}),
		'helper|daily_report|@reboot ' . join(' ', map { value($node, 'SELECT current_user') . "|daily_report|$_" } '0 6 * * *', '@reboot'), 'the record says who did that');
};

subtest 'another database' => sub {
	value($node, 'CREATE DATABASE other');
	in_database('other');
	value($node, <<~'SQL');
		CREATE EXTENSION pg_tandem;
		SELECT tandem.grant_role('boss', 'operator');
		CREATE SCHEMA a; CREATE SCHEMA b; GRANT CREATE ON DATABASE other TO boss; SET ROLE boss; SELECT tandem.create_run('far', 'a', 'b');
		SQL
	my ($state, $hint) = refused($node, q{SELECT tandem.schedule('far', 'daily_report', '0 6 * * *')});
	is($state, '55000', 'pg_cron keeps its jobs elsewhere');
	like($hint, qr/Connect to "postgres".*SELECT cron\.schedule_in_database\(/, '... and this is what to run there');
	# Somebody else's schema of that name: its functions are not called.
	value($node, q{SET ROLE boss; CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint); CREATE FUNCTION cron.schedule_in_database(text, text, text, text, text, boolean) RETURNS bigint LANGUAGE sql AS 'SELECT 1'});
	is((refused($node, q{SELECT tandem.schedule('far', 'daily_report', '0 6 * * *')}))[0], '55000', 'a schema "cron" of somebody else is none of pg_cron');
	is(value($node, 'SELECT count(*) FROM tandem.schedules'), 0, 'nothing is scheduled');
	in_database('postgres');
	my ($sql) = $hint =~ /run: (SELECT .*)/;
	value($node, $sql);
	is(value($node, q{SELECT concat_ws('|', command, database, username) FROM cron.job WHERE database = 'other'}), q{SELECT tandem.run_job('far', 'daily_report')|other|boss}, 'the HINT as it stands does it');
};

subtest 'pg_cron ran them' => sub {
	value($node, q{DROP OWNED BY helper; SELECT tandem.unschedule(NULL, 'tick'), tandem.revoke_role('helper', 'operator'); DROP ROLE helper});
	$node->restart; # @reboot
	becomes($node, "last_status = 'succeeded' FROM tandem.schedules WHERE job = 'daily_report'", 'at the restart');
	is(value($node, q{SELECT concat_ws('|', d.username, d.command) FROM cron.job_run_details AS d JOIN tandem.schedules AS s ON s.cron_job = d.jobid WHERE s.job = 'daily_report'}),
		q{boss|SELECT tandem.run_job('it''s "a" run', 'daily_report')}, '... as the owner');
	is(value($node, q{SELECT count(*) FROM tandem.daily_report WHERE run = 'it''s "a" run'}), 1, 'there is a report');
	like(value($node, q{SELECT said FROM tandem.schedules WHERE job = 'daily_report'}), qr/^OK: run it's "a" run on /, 'what the job said is kept');
  SKIP: {
		skip 'TANDEM_QUICK: this pg_cron needs a minute', 5 if $ENV{TANDEM_QUICK} && !$seconds;
		local $PostgreSQL::Test::Utils::timeout_default = 240; # pg_cron's clock has minutes
		becomes($node, "last_status = 'succeeded' AND last_start > '$before' AND said IS NOT NULL FROM tandem.schedules WHERE job = 'reconcile'", 'by the clock, though who scheduled it is gone');
		is(value($node, q{SELECT DISTINCT said FROM tandem.schedules WHERE job = 'reconcile'}), '1 table compared, 0 differences; 1 check made, all passed', 'a reconciliation');
		is(value($node, qq{SELECT DISTINCT concat_ws('|', run, name, status, legacy_value, new_value, difference_percent) FROM tandem.check_results WHERE at > '$before'}), q{it's "a" run|rows|passed|100|100|0}, '... with its check');
		is(value($node, q{SELECT count(*) FROM tandem.check_results AS c WHERE NOT EXISTS (SELECT FROM cron.job_run_details AS d JOIN tandem.schedules AS s ON s.cron_job = d.jobid WHERE s.job = 'reconcile' AND c.at BETWEEN d.start_time AND coalesce(d.end_time, c.at))}), 0,
			'... made by pg_cron, and by nobody else');
		is(value($node, qq{SELECT concat_ws('|', max(c.reason), max(c.legacy_rows), (SELECT max(role) FROM tandem.event WHERE kind = 'validate')) FROM tandem.comparisons AS c WHERE c.started_at > '$before' AND c.reason = 'validate()'}),
			'validate()|100|boss', '... of all rows, as the owner');
	}
	# A job that fails shows.
	value($node, q{UPDATE cron.job_run_details SET status = 'failed', return_message = 'ERROR: it could not' WHERE runid = (SELECT max(d.runid) FROM cron.job_run_details AS d JOIN tandem.schedules AS s ON s.cron_job = d.jobid WHERE s.job = 'daily_report')});
	like(health($node), qr/^CRITICAL 1 daily_report: failed at \d.*: ERROR: it could not$/, 'a last run that failed is critical');
	value($node, q{UPDATE cron.job_run_details SET status = 'succeeded' WHERE status = 'failed'});
	value($node, q{SELECT tandem.revoke_role('boss', 'operator')});
	is(sqlstate($node, q{SET ROLE boss; SELECT tandem.run_job('it''s "a" run', 'reconcile')}), '42501', 'a right that was taken from the owner is taken from the job');
	value($node, q{SELECT tandem.grant_role('boss', 'operator')});
};

subtest 'a dump' => sub {
	my $file = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('postgres') ], 'pg_dump');
	my $copy = tandem_node('copy', preload => 1, also => 'pg_cron', conf => $conf);
	$copy->start;
	value($copy, 'CREATE ROLE boss LOGIN; CREATE ROLE stranger; CREATE ROLE watcher; CREATE DATABASE lonely');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $copy->connstr('postgres'), $file ], 'where pg_cron is');
	is(value($copy, q{SELECT string_agg(concat_ws('|', job, state), ' ' ORDER BY job) FROM tandem.schedules}), 'daily_report|active reconcile|active', 'the jobs came along');
	is(value($copy, q{SELECT tandem.run_job('it''s "a" run', 'reconcile')}), 'nothing: this database is a copy, and nobody has moved the run in it', '... and leave the run alone until somebody moves it');
	is(value($copy, q{SELECT phase FROM tandem.resume('it''s "a" run')}), 'progressing', 'somebody does');
	is(value($copy, q{SELECT tandem.run_job('it''s "a" run', 'reconcile')}), '1 table compared, 0 differences; 1 check made, all passed', '... and they are at work again');

	# Into another database: the extension pg_cron can't be there.
	in_database('lonely');
	my ($list) = PostgreSQL::Test::Utils::run_command([ $node->installed_command('pg_restore'), '-l', $file ]);
	PostgreSQL::Test::Utils::append_to_file("$file.list", join "\n", grep { !/pg_cron| cron / } split /\n/, $list);
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-L', "$file.list", '-d', $copy->connstr('lonely'), $file ], 'where it is not');
	is(value($copy, q{SELECT string_agg(concat_ws('|', job, state), ' ' ORDER BY job) FROM tandem.schedules}), 'daily_report|missing reconcile|missing', 'they are known, and missing');
	is(value($copy, q{SELECT tandem.unschedule('it''s "a" run', 'reconcile')}), 'f', 'and forgotten without pg_cron');
	in_database('postgres');
	value($copy, 'DELETE FROM cron.job');
	is(value($copy, q{SELECT string_agg(state, ' ') FROM tandem.schedules}), 'missing missing', 'pg_cron lost them');
	is(health($copy), 'CRITICAL 2 daily_report: pg_cron has it not; reconcile: pg_cron has it not', '... which is critical');
	value($copy, "SELECT tandem.schedule(run, job, cron) FROM tandem.schedules WHERE state = 'missing'");
	is(value($copy, q{SELECT string_agg(state, ' ') FROM tandem.schedules}), 'active active', 'one statement brings them back');
	$copy->stop;
};

subtest 'taken back; pg_cron goes' => sub {
	is(value($node, q{SELECT tandem.unschedule('it''s "a" run', 'reconcile')}), 't', 'unscheduled');
	is(value($node, q{SELECT count(*) FROM cron.job WHERE command LIKE '%reconcile%'}), 0, '... pg_cron has it no more');
	value($node, 'DROP EXTENSION pg_cron');
	is(value($node, q{SELECT string_agg(concat_ws('|', job, state), ' ') FROM tandem.schedules}), 'daily_report|missing', 'without the extension');
	my ($state, $hint) = refused($node, q{SELECT tandem.schedule('it''s "a" run', 'validate', '* * * * *')});
	is("$state $hint", '55000 As a superuser: CREATE EXTENSION pg_cron, or ALTER EXTENSION pg_cron UPDATE.', 'it says so');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_tandem'");
	$node->restart;
	($state, $hint) = refused($node, q{SELECT tandem.schedule('it''s "a" run', 'validate', '* * * * *')});
	is($state, '55000', 'not preloaded, though its setting still stands in postgresql.conf');
	like($hint, qr/postgresql-\d+-cron\), add it to shared_preload_libraries, set cron.database_name = 'postgres', restart/, '... and what to do');
	my ($command) = $hint =~ /psql -c "(.*)"/;
	like(value($node, $command), qr/^1 table compared/, 'the command for any other scheduler, as it stands');
};

done_testing();
