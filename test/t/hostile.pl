# People who mean no good, against a server whose worker is at work: a stranger who may only connect, and the owner of a run, who is no superuser and would like to be.
# What they do within one session is tried in pgtap/security and pgtap/metric; here the worker is what they are after.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE ROLE boss LOGIN; CREATE ROLE stranger LOGIN;
	SELECT tandem.grant_role('boss', 'operator');
	GRANT CREATE ON DATABASE postgres TO boss;
	CREATE TABLE public.secret (x integer);
	SET ROLE boss;
	CREATE SCHEMA old; CREATE SCHEMA shiny; CREATE SCHEMA evil;
	CREATE TABLE old.t (id integer PRIMARY KEY, v text); CREATE TABLE shiny.t (id integer PRIMARY KEY, v text);
	INSERT INTO old.t SELECT i, i FROM generate_series(1, 100) AS i;
	SELECT FROM tandem.create_run('r', 'old', 'shiny', hold => '1 hour', steps => '{50,100}');
	SELECT FROM tandem.map_table('r', 'old.t', 'shiny.t');
	SELECT FROM tandem.set_option('r', 'validate_every', '200 ms'), tandem.start('r');
	SQL
becomes($node, "stage = 'shadow' FROM tandem.runs", 'a run is in shadow');

# Is the run compared again and again from now on?
sub goes_on
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $now = value($node, 'SELECT clock_timestamp()');
	return becomes($node, "validated_at > '$now'::timestamptz + interval '300 ms' FROM tandem.runs WHERE run = 'r'", $what);
}

subtest 'a stranger who holds every advisory lock that he can think of' => sub {
	my $session = $node->background_psql('postgres', extra_params => [ '-U', 'stranger' ]);
	$session->query("SELECT count(pg_advisory_lock(c.oid::integer, n)) FROM pg_class AS c, generate_series(0, 20) AS n WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'r'");
	$session->query('SELECT count(pg_advisory_lock(n)) FROM generate_series(0, 1000) AS n');
	goes_on('the run is compared all the same');
	is(value($node, q{SET ROLE boss; SELECT status FROM tandem.daily_report('r', (now() AT TIME ZONE 'UTC')::date)}) ne '', 1, 'its report is made');
	value($node, q{SET ROLE boss; INSERT INTO old.t VALUES (-1, 'x'); SELECT count(*) FROM tandem.validate('r')});
	is(value($node, q{SELECT weight FROM tandem.promote('r')}), 50, 'it is promoted');
	is(value($node, q{SELECT count(*) FROM tandem.rollback('r', 'a drill')}), 1, '... and rolled back');
	becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", '... with its proof');
	is(value($node, q{SELECT phase FROM tandem.retry('r')}), 'progressing', '... and goes on');
	is(sqlstate($node, 'SET ROLE stranger; SELECT tandem.take_lock(\'tandem.run\', 1)'), '42501', 'our own locks are not his');
	$session->quit;
};

subtest 'an owner who sets his role up' => sub {
	value($node, qq{SET ROLE boss; ALTER ROLE boss SET $_}) foreach "search_path = 'evil'", 'statement_timeout = 1', 'default_transaction_read_only = on', "default_transaction_isolation = 'serializable'", 'lock_timeout = 1',
	  "datestyle = 'German'", 'timezone = \'Asia/Kolkata\'', 'extra_float_digits = -15', 'standard_conforming_strings = off', 'row_security = off', 'enable_seqscan = off';
	$node->restart;
	goes_on('his executor works as it should');
	value($node, 'ALTER ROLE boss RESET ALL');
};

subtest 'an owner whose metric changes after it was added' => sub {
	value($node, <<~'SQL');
		SET ROLE boss;
		CREATE FUNCTION evil.count_it() RETURNS integer LANGUAGE sql AS 'SELECT 1';
		CREATE VIEW evil.seen AS SELECT evil.count_it() AS x;
		SELECT FROM tandem.add_metric('r', 'nice', 'SELECT x FROM evil.seen', 'result = 1', every => '0');
		SQL
	becomes($node, "verdict = 'pass' FROM tandem.metrics WHERE metric = 'nice'", 'a nice metric');
	value($node, <<~'SQL');
		SET ROLE boss;
		CREATE OR REPLACE FUNCTION evil.count_it() RETURNS integer LANGUAGE plpgsql AS $$
		DECLARE
			tried text;
		BEGIN
			FOREACH tried IN ARRAY ARRAY['INSERT INTO public.secret VALUES (1)', 'ALTER ROLE boss SUPERUSER', 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'SET ROLE postgres', 'UPDATE tandem.run SET weight = 100',
				'SELECT tandem.promote(''r'')', 'SELECT tandem.rollback(''r'', ''x'')', 'SELECT tandem.add_metric(''r'', ''more'', ''SELECT 1'', ''true'')', 'SELECT tandem.execute_round(1)', 'CREATE TEMP TABLE run (id integer)',
				'COPY public.secret TO PROGRAM ''id''', 'SELECT pg_read_file(''/etc/passwd'')', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ''postgres''',
				'PREPARE x AS SELECT 1', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'LISTEN x', 'SELECT setval(pg_get_serial_sequence(''tandem.run'', ''id''), 1)', 'LOCK TABLE tandem.run'] LOOP
				BEGIN
					EXECUTE tried;
					IF tried NOT LIKE '%pg_terminate%' THEN
						RETURN 666;
					END IF;
				EXCEPTION WHEN OTHERS THEN NULL;
				END;
			END LOOP;
			PERFORM pg_advisory_lock('tandem.run'::regclass::oid::integer, 1);
			RETURN CASE WHEN current_user = 'boss' AND session_user = 'boss' THEN 2 ELSE 667 END;
		END $$;
		SQL
	becomes($node, "value = 2 AND verdict = 'fail' FROM tandem.metrics WHERE metric = 'nice'", 'an evil one: it got nowhere');
	goes_on('the run goes on');
	is(value($node, "SELECT rolsuper FROM pg_roles WHERE rolname = 'boss'"), 'f', 'he is what he was');
	is(value($node, 'SELECT count(*) FROM public.secret'), 0, '... and wrote nothing');
	value($node, "SELECT tandem.drop_metric('r', 'nice')");
};

subtest 'an owner whose functions wait in conditions and views for a superuser' => sub {
	value($node, <<~'SQL');
		SET ROLE boss;
		CREATE FUNCTION evil.trap(numeric) RETURNS numeric LANGUAGE plpgsql STABLE AS $$ BEGIN
			IF current_user <> 'boss' THEN EXECUTE 'ALTER ROLE boss SUPERUSER'; END IF;
			RETURN $1;
		END $$;
		SELECT FROM tandem.add_metric('r', 'trap', 'SELECT evil.trap(1)', 'evil.trap(result) = 1', 'evil.trap(result) > 5', every => '0', critical => true);
		SELECT FROM tandem.add_alert_rule('trap', 'trap', '>', 0, run => 'r', message => '<script>alert(1)</script>');
		INSERT INTO old.t VALUES (-2, '<script>alert(2)</script>');
		SQL
	becomes($node, "verdict = 'pass' FROM tandem.metrics WHERE metric = 'trap'", 'it is measured');
	# all that a superuser looks at
	value($node, $_) foreach 'SELECT count(*) FROM tandem.metrics', 'SELECT count(*) FROM tandem.health', "SELECT length(tandem.report('r'))", "SELECT count(*) FROM tandem.dashboard('r')", "SELECT count(*) FROM tandem.preflight('r')",
	  "SELECT count(*) FROM tandem.validate('r')", "SELECT count(*) FROM tandem.tick()", "SELECT count(*) FROM tandem.repair('r')", "SELECT summary FROM tandem.daily_report('r', (now() AT TIME ZONE 'UTC')::date)",
	  "SELECT count(*) FROM tandem.diff_schema('old', 'shiny')", "SELECT count(*) FROM tandem.runs", "SELECT output FROM tandem.nagios()";
	is(value($node, "SELECT rolsuper FROM pg_roles WHERE rolname = 'boss'"), 'f', 'none of it ran his functions in a superuser\'s name');
	unlike(value($node, "SELECT tandem.report('r')"), qr/<script/, 'no script came into the page');
};

$node->stop;
done_testing();
