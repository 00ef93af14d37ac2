# The queue at random: many workers claim, beat, finish, fail, give back, fall silent, come back too late, roll back; transactions stay open or
# are prepared; an old snapshot is held; backends and the whole server are killed. Afterwards every task is finished, once;
# every token was given once and ended at most once; what a worker was told is what the record says.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();
my $workers = 8;
my $node;
my @running;

sub start_sessions
{
	my ($from, $count, $drain) = @_;
	foreach my $i ($from .. $from + $count - 1)
	{
		my %session = (out => '', err => '');
		my $number = ($seed * 31 + $i * 7) % 1000 / 1000;
		$session{run} = IPC::Run::start(
			[ $node->installed_command('psql'), '-XqAt', '-d', $node->connstr('postgres') . ' application_name=worker', '-c', "CALL work('worker $i', $number, $drain)" ],
			'<', \undef, '>', \$session{out}, '2>', \$session{err});
		push @running, \%session;
	}
	return;
}

sub finish_sessions
{
	foreach my $session (@running)
	{
		eval { $session->{run}->finish; };
	}
	my @errors = grep { /ERROR/ && !/terminat|administrator command|crash of another/ } map { split /\n/, $_->{err} } @running;
	@running = ();
	is(join("\n", @errors), '', 'no worker met an error but the end of its connection');
	return;
}

sub setup
{
	value($node, <<~'SQL');
		SET client_min_messages = warning;
		CREATE EXTENSION pg_tandem;
		CREATE TABLE control (stop boolean);
		INSERT INTO control VALUES (false);
		CREATE TABLE told (task_id uuid, lease_token bigint, state text, ok boolean); -- in the transaction of the finish
		SELECT tandem.task_retry_policy('a', 3, '5 ms', '50 ms'), tandem.task_retry_policy('b', 6, '0', '0');
		CREATE FUNCTION make_tasks(n integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
		    SELECT count(tandem.task_create((ARRAY['a','b','c'])[1 + floor(random() * 3)::integer], severity => (ARRAY['low','normal','high','critical'])[1 + floor(random() * 4)::integer],
		                            run_at => CASE floor(random() * 4)::integer WHEN 0 THEN clock_timestamp() + random() * interval '300 ms' WHEN 1 THEN clock_timestamp() - random() * interval '1 hour' END))
		      FROM generate_series(1, n) $$;
		CREATE PROCEDURE work(me text, seed float8, drain boolean) LANGUAGE plpgsql AS $$
		DECLARE
		    c record;
		    claims record;
		    finished record;
		    dice float8;
		    wanted text;
		BEGIN
		    PERFORM setseed(seed);
		    WHILE NOT (SELECT stop FROM control) LOOP
		        IF NOT drain AND random() < 0.2 THEN
		            PERFORM make_tasks(floor(random() * 8)::integer);
		            IF random() < 0.1 THEN
		                PERFORM pg_sleep(random() * 0.05); -- committed late
		            END IF;
		            IF random() < 0.1 THEN
		                ROLLBACK;
		            ELSE
		                COMMIT;
		            END IF;
		        END IF;
		        SELECT array_agg(t.id) AS ids, array_agg(t.lease_token) AS tokens INTO claims
		          FROM tandem.task_claim(me, CASE WHEN random() < 0.3 THEN ARRAY[(ARRAY['a','b','c'])[1 + floor(random() * 3)::integer]] END,
		                                 1 + floor(random() ^ 2 * 9)::integer, CASE WHEN drain OR random() < 0.7 THEN interval '4 s' ELSE random() * interval '30 ms' + interval '1 us' END) AS t;
		        IF NOT drain AND random() < 0.08 THEN
		            ROLLBACK;
		            CONTINUE;
		        END IF;
		        COMMIT;
		        IF claims.ids IS NULL THEN
		            PERFORM pg_sleep(0.005);
		            CONTINUE;
		        END IF;
		        FOR i IN 1..array_length(claims.ids, 1) LOOP
		            dice := CASE WHEN drain THEN 0 ELSE random() END;
		            CONTINUE WHEN dice > 0.97; -- forgotten
		            IF dice > 0.85 THEN
		                PERFORM pg_sleep(random() * 0.04); -- perhaps too late
		            ELSIF dice > 0.8 THEN
		                PERFORM tandem.task_heartbeat(me, claims.ids, claims.tokens, interval '1 s');
		            ELSIF dice > 0.77 THEN
		                PERFORM tandem.task_cas(t.id, t.version, 'running', '{"seen": true}') FROM tandem.task AS t WHERE t.id = claims.ids[i] AND t.state = 'claimed' AND t.worker = me;
		            ELSIF dice > 0.75 THEN
		                PERFORM tandem.task_cas(t.id, t.version, 'escalated') FROM tandem.task AS t WHERE t.id = claims.ids[i] AND t.state = 'claimed';
		            END IF;
		            wanted := CASE WHEN drain THEN 'done' ELSE (ARRAY['done','done','done','failed','failed','pending','cancelled'])[1 + floor(random() * 7)::integer] END;
		            FOR twice IN 1..CASE WHEN random() < 0.1 THEN 2 ELSE 1 END LOOP
		                SELECT * INTO finished FROM tandem.task_finish(claims.ids[i], claims.tokens[i], wanted, jsonb_build_object('by', me));
		                INSERT INTO told VALUES (claims.ids[i], claims.tokens[i], wanted, finished.ok);
		            END LOOP;
		            IF NOT drain AND random() < 0.05 THEN
		                ROLLBACK;
		            ELSE
		                COMMIT;
		            END IF;
		        END LOOP;
		        IF random() < 0.02 THEN
		            PERFORM tandem.task_rescue(5);
		            COMMIT;
		        END IF;
		    END LOOP;
		END
		$$;
		SQL
	return;
}

sub checked
{
	my ($sql, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, "SELECT count(*) || coalesce(': ' || left(string_agg(x::text, '; '), 1000), '') FROM ($sql) AS x"), '0', $name);
	return;
}

sub check
{
	checked(<<~'SQL', 'a task has as many events as versions, none twice, none left out');
		SELECT t.id, t.version, count(*), max(e.version) FROM tandem.task AS t LEFT JOIN tandem.event AS e ON e.task_id = t.id
		 GROUP BY t.id HAVING t.version <> count(*) OR t.version <> max(e.version) OR count(*) <> count(DISTINCT e.version)
		SQL
	checked('SELECT e.task_id FROM tandem.event AS e LEFT JOIN tandem.task AS t ON t.id = e.task_id WHERE e.task_id IS NOT NULL AND t.id IS NULL', 'no event without its task');
	checked(<<~'SQL', 'a token is given once, and ends at most once');
		SELECT evidence ->> 'lease_token', array_agg(kind) FROM tandem.event WHERE kind IN ('task_claim', 'task_finish', 'task_rescue') AND evidence ->> 'lease_token' IS NOT NULL
		 GROUP BY 1 HAVING count(*) FILTER (WHERE kind = 'task_claim') <> 1 OR count(*) FILTER (WHERE kind <> 'task_claim') > 1
		SQL
	checked(<<~'SQL', 'what workers were told is what was recorded');
		SELECT * FROM (SELECT task_id, lease_token FROM told WHERE ok) AS t
		  FULL JOIN (SELECT task_id, (evidence ->> 'lease_token')::bigint AS lease_token FROM tandem.event WHERE kind = 'task_finish') AS e USING (task_id, lease_token)
		 WHERE t IS NULL OR e IS NULL
		SQL
	checked("SELECT task_id, lease_token FROM told WHERE ok GROUP BY 1, 2 HAVING count(*) > 1", 'nobody finished twice');
	checked("SELECT id, attempt, max_attempts FROM tandem.task WHERE attempt > max_attempts", 'no task was tried more often than it may');
	checked(<<~'SQL', 'between two claims of a task the first one ended');
		SELECT task_id, version, kind, before FROM (SELECT task_id, version, kind, lag(kind) OVER (PARTITION BY task_id ORDER BY version) AS before FROM tandem.event
		                                             WHERE kind IN ('task_claim', 'task_finish', 'task_rescue', 'task_cancel')) AS x WHERE kind = 'task_claim' AND before = 'task_claim'
		SQL
	checked(<<~'SQL', 'task_ready holds just what can be claimed');
		SELECT t.id, r.task_id FROM (SELECT * FROM tandem.task WHERE (state IN ('pending', 'escalated') OR (state = 'failed' AND attempt < max_attempts)) AND lease_until IS NULL) AS t
		  FULL JOIN tandem.task_ready AS r ON r.task_id = t.id AND r.priority = t.priority AND r.run_at = t.run_at AND r.kind = t.kind COLLATE "C" WHERE t.id IS NULL OR r.task_id IS NULL
		SQL
	return;
}

# Claims step over an open transaction's entries once many dead ones lie behind them. What such a transaction made or claimed is found as soon
# as it has ended, not only when everything is read again.
subtest 'open transactions are left behind, and found again' => sub {
	$node = tandem_node('task_queue_behind', preload => 1, conf => "max_prepared_transactions = 10\n");
	$node->start;
	value($node, "CREATE EXTENSION pg_tandem; SELECT count(tandem.task_create('z')) FROM generate_series(1, 10)");
	my $claim = sub { return value($node, "SELECT count(*) FROM tandem.task_claim('w', '{z}', $_[0])"); };
	my $long = $node->background_psql('postgres');
	$long->query("BEGIN; SELECT count(*) FROM tandem.task_claim('long', '{z}', 3); SELECT count(tandem.task_create('z')) FROM generate_series(1, 5)");
	value($node, "BEGIN; SELECT count(*) FROM tandem.task_claim('prepared', '{z}', 2); SELECT tandem.task_create('z'); PREPARE TRANSACTION 'p'");
	value($node, "SELECT count(tandem.task_create('z')) FROM generate_series(1, 300)");
	usleep(50_000);
	is($claim->(200), 200, 'the others are claimed');
	is($claim->(200), 105, 'all of them');
	is($claim->(1), 0, 'then there are none') foreach 1 .. 3;
	value($node, "SELECT count(tandem.task_create('z')) FROM generate_series(1, 100)");
	usleep(50_000);
	is($claim->(100), 100, 'more of them');
	is($claim->(1), 0, 'then there are none');
	value($node, "COMMIT PREPARED 'p'");
	is($claim->(10), 1, 'what a prepared transaction made is found when it is committed');
	is($claim->(1), 0, 'and no more');
	$long->query('ROLLBACK');
	is($claim->(10), 3, 'what a transaction claimed is found when it is rolled back');
	is($claim->(1), 0, 'and no more');
	$long->query("BEGIN; SELECT count(tandem.task_create('z')) FROM generate_series(1, 5)");
	value($node, "SELECT count(tandem.task_create('z')) FROM generate_series(1, 200)");
	usleep(50_000);
	is($claim->(200), 200, 'again') and is($claim->(1), 0, 'then there are none');
	$long->query('COMMIT');
	is($claim->(10), 5, 'what a transaction made is found when it is committed');
	$long->quit;
	$node->stop;
};

foreach my $preload (1, 0)
{
	my $how = $preload ? 'with preload' : 'without preload';
	subtest $how => sub {
		srand($seed + $preload);
		$node = tandem_node("task_queue_$preload", preload => $preload,
			conf => "restart_after_crash = on\ntandem.naptime = '100ms'\nmax_prepared_transactions = 10\nautovacuum_naptime = 1\nfsync = off\n");
		$node->start;
		setup();
		value($node, 'SELECT make_tasks(300)');
		foreach my $round (1 .. ($ENV{TANDEM_QUICK} ? 2 : 3))
		{
			start_sessions($round * 100, $workers, 'false');
			my $holder = $node->background_psql('postgres', on_error_stop => 0);
			$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM control');
			# Open for long: one that made tasks and claimed one, and a prepared one.
			my $long = $node->background_psql('postgres', on_error_stop => 0);
			$long->query("BEGIN; SELECT make_tasks(5); SELECT count(*) FROM tandem.task_claim('long', n => 3, lease => '50 ms')");
			my $prepared = "p$round";
			value($node, "BEGIN; SELECT make_tasks(5), count(*) FROM tandem.task_claim('prepared', n => 3, lease => '50 ms'); PREPARE TRANSACTION '$prepared'");
			my $until = time() + ($ENV{TANDEM_QUICK} ? 1 : 3);
			while (time() < $until)
			{
				usleep(200_000);
				value($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'worker' ORDER BY random() LIMIT 1") if rand() < 0.2;
			}
			value($node, (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$prepared'");
			$long->query(rand() < 0.5 ? 'COMMIT' : 'ROLLBACK');
			$_->quit foreach ($long, $holder);
			if ($round == 1)
			{
				my $pid = value($node, "SELECT pid FROM pg_stat_activity WHERE application_name = 'worker' ORDER BY random() LIMIT 1");
				kill_process($node, $pid);
			}
			elsif ($round == 2)
			{
				$node->stop('immediate');
				$node->start;
			}
			value($node, 'UPDATE control SET stop = true');
			finish_sessions();
			value($node, 'UPDATE control SET stop = false');
			check();
		}
		# All of them are brought to an end.
		start_sessions(900, 3, 'true');
		my $left = "(SELECT count(*) FROM tandem.task WHERE state NOT IN ('done', 'dead', 'cancelled'))";
		becomes($node, "$left = 0", 'every task is finished in the end');
		value($node, 'UPDATE control SET stop = true');
		finish_sessions();
		check();
		checked(q{SELECT task_id FROM tandem.event WHERE state = 'done' GROUP BY 1 HAVING count(*) > 1}, 'no task was done twice');
		is(value($node, 'SELECT count(*) FROM tandem.task_ready'), '0', 'nothing is ready any more');
		cmp_ok(value($node, 'SELECT count(*) FROM tandem.task'), '>=', 300, 'and they were many');
		note(value($node, 'SELECT kind, state, count(*) FROM tandem.event WHERE task_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2'));
		$node->stop;
	};
}
done_testing();
