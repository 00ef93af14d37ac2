# Observing on real servers: statements of every kind against what each should have counted, 100 clients against a table of what they observed,
# crashes at random moments, full memory, and a clock that is set back.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);

seed();
my $quick = $ENV{TANDEM_QUICK};
my $save_ms = 400;
my $settings = "tandem.naptime = '100ms'\ntandem.observe_save_every = '${save_ms}ms'\nmax_connections = 130\nrestart_after_crash = on\nfsync = off\nautovacuum = off\n";
my $node = tandem_node('observe', preload => 1, conf => $settings);
$node->start;

my $make = <<'SQL';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
CREATE SCHEMA legacy; CREATE SCHEMA store;
CREATE TABLE legacy.item (id integer PRIMARY KEY, qty integer CHECK (qty >= 0), at timestamptz DEFAULT now());
CREATE TABLE store.item (LIKE legacy.item INCLUDING ALL);
CREATE TABLE legacy.part (id integer PRIMARY KEY, qty integer) PARTITION BY RANGE (id);
CREATE TABLE legacy.part_low PARTITION OF legacy.part FOR VALUES FROM (0) TO (100); CREATE TABLE legacy.part_high PARTITION OF legacy.part FOR VALUES FROM (100) TO (1000);
CREATE TABLE store.part (id integer PRIMARY KEY, qty integer);
CREATE TABLE public.other (id integer PRIMARY KEY);
INSERT INTO legacy.item SELECT i, i FROM generate_series(1, 100) AS i;
INSERT INTO legacy.part SELECT i, i FROM generate_series(1, 200) AS i;
SELECT FROM tandem.create_run('r', 'legacy', 'store', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('r', 'legacy.item', 'store.item'); SELECT FROM tandem.map_table('r', 'legacy.part', 'store.part');
SELECT FROM tandem.add_operation('r', 'checkout', '200 ms');
SELECT FROM tandem.start('r');
SQL
value($node, $make);
becomes($node, q((SELECT stage = 'shadow' FROM tandem.runs)), 'a run with its mirror');
# As applications have them.
value($node, <<'SQL');
CREATE VIEW public.items AS SELECT * FROM store.item;
CREATE FUNCTION public.two_reads() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN PERFORM FROM legacy.item WHERE id = 1; RETURN (SELECT count(*) FROM store.item); END';
CREATE FUNCTION public.as_owner() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT count(*) FROM legacy.item';
CREATE FUNCTION public.caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN INSERT INTO legacy.item VALUES (1, 1); EXCEPTION WHEN unique_violation THEN NULL; END;
    BEGIN PERFORM qty / 0 FROM store.item; EXCEPTION WHEN division_by_zero THEN NULL; END;
    RETURN (SELECT 'here' FROM legacy.item WHERE id = 2);
END $$;
CREATE FUNCTION public.fails_inside() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM store.item WHERE id = NEW.id; -- part of the statement that fired it
    IF NEW.qty = 666 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'PT666'; END IF;
    IF NEW.qty = 400 THEN RAISE deadlock_detected; END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION public.loses() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE serialization_failure; END $$;
CREATE FUNCTION public.loses_and_goes_on() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN PERFORM public.loses() FROM legacy.item; EXCEPTION WHEN serialization_failure THEN NULL; END;
    RETURN (SELECT 'here' FROM store.item WHERE id = 2);
END $$;
CREATE TRIGGER fails_inside AFTER UPDATE ON legacy.item FOR EACH ROW EXECUTE FUNCTION public.fails_inside();
CREATE PROCEDURE public.commits() LANGUAGE plpgsql AS 'BEGIN FOR i IN 1..3 LOOP UPDATE store.item SET qty = qty + 1 WHERE id = i; COMMIT; END LOOP; END';
CREATE PROCEDURE public.loops() LANGUAGE plpgsql AS 'DECLARE r record; BEGIN FOR r IN SELECT * FROM legacy.item WHERE id < 6 LOOP UPDATE store.item SET qty = qty WHERE id = r.id; COMMIT; END LOOP; END';
SQL

# --- statements, in a random order, each with what it counts: operation side n errors
my $n = 1000;
my @kinds = (
	[ sub { 'SELECT FROM legacy.item WHERE id = 1' }, 'select legacy 1 0' ],
	[ sub { 'SELECT FROM store.item WHERE id = 1' }, 'select new 1 0' ],
	[ sub { 'SELECT FROM public.items WHERE id = 1' }, 'select new 1 0' ],
	[ sub { 'SELECT FROM legacy.part' }, 'select legacy 1 0' ],
	[ sub { 'SELECT FROM legacy.part_low WHERE id = 7' }, 'select legacy 1 0' ],
	[ sub { 'SELECT FROM legacy.item JOIN store.item USING (id)' } ],
	[ sub { 'SELECT FROM legacy.item JOIN legacy.part USING (id)' }, 'select legacy 1 0' ],
	[ sub { 'SELECT FROM public.other' } ],
	[ sub { 'SELECT 1 / 0' } ],
	[ sub { 'SELECT qty / 0 FROM legacy.item' }, 'select legacy 1 1' ],
	[ sub { 'SELECT nothing FROM legacy.item' } ],
	[ sub { 'INSERT INTO legacy.item VALUES (' . $n++ . ', 1)' }, 'insert legacy 1 0' ],
	[ sub { 'INSERT INTO store.item VALUES (' . $n++ . ', 1)' }, 'insert new 1 0' ],
	[ sub { 'INSERT INTO legacy.item VALUES (1, 1)' }, 'insert legacy 1 1' ],
	[ sub { 'INSERT INTO store.item SELECT ' . $n++ . ', qty FROM legacy.item WHERE id = 5' }, 'insert new 1 0' ],
	[ sub { 'INSERT INTO public.other SELECT ' . $n++ . ' FROM legacy.item WHERE id = 5' }, 'insert legacy 1 0' ],
	[ sub { 'WITH x AS (UPDATE legacy.item SET qty = 5 WHERE id = 3 RETURNING id) SELECT FROM x' }, 'select legacy 1 0' ],
	[ sub { 'UPDATE legacy.item SET qty = 4 WHERE id = 3' }, 'update legacy 1 0' ],
	[ sub { 'UPDATE legacy.item SET qty = -1 WHERE id = 3' }, 'update legacy 1 1' ],
	[ sub { 'UPDATE legacy.item SET qty = 666 WHERE id = 3' }, 'update legacy 1 1' ],
	[ sub { 'UPDATE legacy.item SET qty = 400 WHERE id = 3' } ], # lost against another transaction: to be made again
	[ sub { 'SELECT public.loses() FROM store.item' } ],
	[ sub { 'SELECT public.loses_and_goes_on()' }, 'select new 1 0' ],
	[ sub { 'SELECT public.loses_and_goes_on() FROM legacy.item WHERE id = 2' }, 'select legacy 1 0' ],
	[ sub { 'DELETE FROM store.item WHERE id = 900' }, 'delete new 1 0' ],
	[ sub { 'MERGE INTO legacy.item AS t USING (SELECT 1 AS id) AS s ON s.id = t.id WHEN MATCHED THEN UPDATE SET qty = 1' }, 'merge legacy 1 0' ],
	[ sub { q(COPY legacy.item TO '/dev/null') }, 'copy legacy 1 0' ],
	[ sub { q(COPY (SELECT FROM store.item) TO '/dev/null') }, 'select new 1 0' ],
	[ sub { q(COPY legacy.item FROM PROGRAM 'echo 1,1' CSV) }, 'copy legacy 1 1' ],
	[ sub { 'EXPLAIN SELECT FROM legacy.item' } ],
	[ sub { 'EXPLAIN (ANALYZE, COSTS off) SELECT FROM legacy.item' }, 'select legacy 1 0' ],
	[ sub { 'SELECT public.two_reads()' }, 'select legacy 1 0', 'select new 1 0' ],
	[ sub { 'SELECT public.two_reads() FROM legacy.item WHERE id = 1' }, 'select legacy 1 0' ],
	[ sub { 'SELECT public.as_owner()' }, 'select legacy 1 0' ],
	[ sub { 'SELECT public.caught()' }, 'insert legacy 1 1', 'select new 1 1', 'select legacy 1 0' ],
	[ sub { 'SELECT public.caught() FROM store.item WHERE id = 2' }, 'select new 1 0' ],
	[ sub { 'CALL public.commits()' }, 'update new 3 0' ],
	[ sub { 'CALL public.loops()' }, 'select legacy 1 0', 'update new 5 0' ],
	[ sub { 'BEGIN; SAVEPOINT a; INSERT INTO legacy.item VALUES (1, 1); ROLLBACK TO a; SELECT FROM store.item WHERE id = 1; COMMIT' }, 'insert legacy 1 1', 'select new 1 0' ],
	[ sub { 'BEGIN; SELECT FROM store.item WHERE id = 1; ROLLBACK' }, 'select new 1 0' ],
	[ sub { 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM legacy.item; FETCH 2 FROM c; SELECT FROM store.item WHERE id = 1; FETCH 2 FROM c; COMMIT' }, 'select legacy 1 0', 'select new 1 0' ],
	[ sub { 'BEGIN; SAVEPOINT a; DECLARE c CURSOR FOR SELECT * FROM legacy.item; FETCH 2 FROM c; RELEASE a; SAVEPOINT b; SELECT 1 / 0; ROLLBACK TO b; FETCH 2 FROM c; ROLLBACK' }, 'select legacy 1 0' ],
	[ sub { 'BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM legacy.item; FETCH 2 FROM c; COMMIT; FETCH 2 FROM c; CLOSE c' }, 'select legacy 1 0' ],
	[ sub { 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM legacy.item; COMMIT' } ],
	[ sub { 'BEGIN; SET LOCAL statement_timeout = 500; SELECT pg_sleep(5) FROM store.item; COMMIT' }, 'select new 1 1' ],
	[ sub { 'PREPARE p AS SELECT FROM legacy.item WHERE id = $1; EXECUTE p(1); EXECUTE p(2); DEALLOCATE p' }, 'select legacy 2 0' ],
	[ sub { q(SET tandem.operation = 'checkout'; SELECT FROM legacy.item WHERE id = 1; UPDATE store.item SET qty = 1 WHERE id = 1; SELECT 1 / 0; RESET tandem.operation) }, 'checkout legacy 1 0', 'checkout new 1 0' ],
	[ sub { q(SET tandem.operation = 'browse'; SELECT qty / 0 FROM legacy.item; RESET tandem.operation; SELECT FROM legacy.item WHERE id = 1) }, 'browse legacy 1 1', 'select legacy 1 0' ],
	[ sub { 'SET tandem.track = off; SELECT FROM legacy.item; RESET tandem.track' } ],
	[ sub { q(SELECT count(*) FROM tandem.diff('legacy.item', 'store.item')) } ],
	[ sub { q(SELECT count(*) FROM tandem.validate('r')) } ],
	[ sub { q(SELECT FROM tandem.preflight('r')) } ],
	[ sub { 'REFRESH MATERIALIZED VIEW public.counts' } ], # runs as in a restricted operation
	[ sub { 'TRUNCATE public.other' } ],
	[ sub { 'CREATE TEMP TABLE copied AS SELECT * FROM store.item; SELECT FROM copied; DROP TABLE copied' }, 'select new 1 0' ],
	[ sub { 'ANALYZE legacy.item' } ],
	[ sub { 'DELETE FROM legacy.item WHERE id = 77; INSERT INTO legacy.item VALUES (77, 77)' }, 'delete legacy 1 0', 'insert legacy 1 0' ],
);
value($node, 'CREATE MATERIALIZED VIEW public.counts AS SELECT count(*) FROM store.item');
sub totals
{
	return { map { /^(\S+ \S+) (.*)$/ ? ($1 => $2) : () } split /\n/,
			value($node, q(SELECT concat_ws(' ', operation, side, n, errors) FROM tandem.latency_totals WHERE run = 'r')) };
}
sub run_statements
{
	my ($what, @statements) = @_;
	my ($before, %wanted) = totals();
	foreach my $statement (@statements)
	{
		foreach my $count (@$statement[ 1 .. $#$statement ])
		{
			my ($operation, $side, $ok, $errors) = split / /, $count;
			my $key = "$operation $side";
			$wanted{$key} //= [ split / /, $before->{$key} // '0 0' ];
			$wanted{$key}[0] += $ok;
			$wanted{$key}[1] += $errors;
		}
	}
	my @texts = map { $_->[0]->() } @statements;
	$node->psql('postgres', join(";\n", map { s/; (?=\S)/;\n/gr } @texts) . ";\n", on_error_stop => 0);
	my $after = totals();
	my %now = map { $_ => $after->{$_} } grep { ($after->{$_} // '') ne ($before->{$_} // '') } keys %$after;
	my %want = map { $_ => "@{ $wanted{$_} }" } keys %wanted;
	return is_deeply(\%now, \%want, $what) || diag(join("\n", @texts));
}
# Where all of them are not counted as they should be, each says which it is.
run_statements('a statement of each kind', @kinds) or map { run_statements('statement: ' . $_->[0]->(), $_) } @kinds;
run_statements("statements in a random order, $_", map { $kinds[ int rand @kinds ] } 1 .. 150) foreach 1 .. ($quick ? 1 : 3);
is(value($node, q(SELECT count(*) FROM tandem.diff('legacy.item', 'store.item'))), 0, '... and both sides are equal');
value($node, q(SET tandem.operation = 'checkout'; BEGIN; DECLARE c CURSOR FOR SELECT * FROM legacy.item; FETCH 2 FROM c; SELECT pg_sleep(3); FETCH 2 FROM c; COMMIT));
cmp_ok(value($node, q(SELECT max_ms FROM tandem.latency('r', 'checkout', 'legacy'))), '<', 3000, 'a cursor\'s time is that of its fetches');

# a session that is ended in the midst of a statement
{
	my $before = totals()->{'select new'};
	my $sleeper = IPC::Run::start([ $node->installed_command('psql'), '-Xqc', 'SELECT pg_sleep(60) FROM store.item', $node->connstr('postgres') ], '>', \my $out, '2>', \my $err);
	becomes($node, q(count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'), 'a statement that takes long');
	value($node, q(SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE wait_event = 'PgSleep'));
	eval { $sleeper->finish };
	my ($n, $errors) = split / /, $before;
	is(totals()->{'select new'}, join(' ', $n + 1, $errors + 1), 'a session that is ended: its statement has failed');
}
# names that nobody declared
{
	value($node, join('', map { "SET tandem.operation = 'name $_'; SELECT FROM legacy.item WHERE id = 1;" } 1 .. 100));
	is(value($node, q(SELECT count(*) || ' ' || sum(n) FROM tandem.latency_totals WHERE operation LIKE 'name %')), '63 63', 'of names that nobody declared some have their own count ...');
	is(value($node, q(SELECT n FROM tandem.latency_totals WHERE operation = 'other')), 37, '... and the others one together');
	is(sqlstate($node, q(SET tandem.operation = 'ä234567890123456789012345678901234567890123456789012345678901234')), '22023', 'a name that is too long');
}

# --- 100 clients, against a table of what they observed
value($node, 'CREATE TABLE public.seen (at timestamptz DEFAULT clock_timestamp(), side text, us bigint, ok boolean)');
my $observe = <<'SQL';
\set kind random(1, 100)
\set us random_exponential(1, 5000000, 9) / (1 + :kind % 3)
\set us case when :kind = 1 then 200000 else :us end
INSERT INTO public.seen (side, us, ok) -- behind it
SELECT v.side, v.us, v.ok FROM (SELECT CASE WHEN :kind < 30 THEN 'legacy' ELSE 'new' END AS side, (:us)::bigint AS us, :kind <> 50 AS ok) AS v, LATERAL tandem.observe('r', 'load', v.side, v.us * interval '1 microsecond', v.ok) AS o;
SQL
sub pgbench
{
	my (@options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir('observe') . '/observe.pgbench';
	PostgreSQL::Test::Utils::append_to_file($file, $observe);
	return IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-M', 'prepared', @options, '-f', $file, $node->connstr('postgres') ], '>', '/dev/null', '2>', \my $err);
}
{
	value($node, q(SELECT tandem.add_operation('r', 'load', '200 ms')));
	my $clients = pgbench('-c', 100, '-j', 2, '-t', $quick ? 40 : 150);
	$clients->finish;
	is(value($node, q(SELECT string_agg(format('%s %s %s %s %s', side, n, errors, over_threshold, round(sum_seconds::numeric, 3)), '; ' ORDER BY side) FROM tandem.latency_totals WHERE operation = 'load')),
		value($node, q(SELECT string_agg(format('%s %s %s %s %s', side, n, errors, over, round(us / 1e6, 3)), '; ' ORDER BY side)
			FROM (SELECT side, count(*) AS n, count(*) FILTER (WHERE NOT ok) AS errors, count(*) FILTER (WHERE us > 200000) AS over, sum(us) AS us FROM public.seen GROUP BY side) AS s)),
		'100 clients: n, errors, over_threshold and the sum are exact');
	my $worst = value($node, <<~'SQL');
		SELECT round(100 * max(abs(l.ms - w.ms) / w.ms)::numeric, 3) FROM (
		    SELECT side, unnest(percentile_disc('{0.5,0.95,0.99}'::float8[]) WITHIN GROUP (ORDER BY us)) / 1000.0 AS ms, unnest('{1,2,3}'::integer[]) AS i FROM public.seen GROUP BY side) AS w
		  JOIN (SELECT side, unnest(ARRAY[p50_ms, p95_ms, p99_ms]) AS ms, unnest('{1,2,3}'::integer[]) AS i FROM tandem.latency('r', 'load', span => '1 hour')) AS l USING (side, i)
		SQL
	diag("worst percentile error $worst %");
	cmp_ok($worst, '<=', 1.6, '... and the percentiles near the exact ones');
	is(value($node, 'SELECT dropped FROM tandem.observe_memory'), 0, '... and nothing was dropped');
}

# --- crashes: what is lost is what came after the last time it was saved, and the rows say when that was
value($node, 'TRUNCATE public.seen');
foreach my $round (1 .. ($quick ? 1 : 3))
{
	value($node, 'SELECT tandem.observe_round()');
	my $since = value($node, 'SELECT counting_since FROM tandem.observe_memory');
	my $base = value($node, q(SELECT coalesce(sum(n), 0) FROM tandem.latency_totals WHERE operation = 'load'));
	value($node, 'TRUNCATE public.seen');
	my $clients = pgbench('-c', 4, '-R', 400, '-T', 300);
	# It is saved twice at least: what was observed before the first time is certainly in what was saved the second time.
	becomes($node, 'count(*) > 50 FROM public.seen', "crash $round: clients observe");
	my $saved_at = q(SELECT coalesce(max(saved_at), '-infinity') FROM tandem.latency_hour WHERE operation = 'load');
	my $now = value($node, 'SELECT clock_timestamp()');
	becomes($node, "($saved_at) > '$now'", '... it is saved');
	my $first = value($node, $saved_at);
	becomes($node, "($saved_at) > '$first'", '... and again');
	my $second = value($node, $saved_at);
	sleep(rand(0.8));
	my $crash;
	for (1 .. 100)
	{
		my $victim = value($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%tandem.observe%' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1));
		$crash = value($node, 'SELECT clock_timestamp()');
		last if kill_process($node, $victim);
		sleep 0.1;
	}
	eval { $clients->finish };
	becomes($node, "counting_since > '$crash' FROM tandem.observe_memory", "crash $round: it counts anew");
	is(value($node, qq(SELECT bool_and(previous_saved_at >= '$second' AND previous_saved_at < counting_since) FROM tandem.observe_memory)), 't', '... and says since when what was observed is lost');
	my ($saved, $at_least, $at_most) = split /\|/, value($node, <<~"SQL");
		WITH saved AS (SELECT sum(n) - $base AS n, max(saved_at) FROM tandem.latency_hour WHERE operation = 'load' AND since = '$since')
		SELECT saved.n, (SELECT count(*) FROM public.seen WHERE seen.at < '$first'), (SELECT count(*) + 4 FROM public.seen) FROM saved
		SQL
	cmp_ok($at_least, '>', 0, '... some of it is saved');
	cmp_ok($saved, '>=', $at_least, "... but not what was saved: $saved of $at_most, $at_least for certain");
	cmp_ok($saved, '<=', $at_most, '... and nothing is there twice');
}
is(value($node, q(SELECT (SELECT n FROM tandem.latency('r', 'load', 'new', '1 day')) = (SELECT sum(n) FROM tandem.latency_hour WHERE (operation, side) = ('load', 'new')))), 't', 'a day has what all these servers counted');
$node->stop('immediate');
$node->start;
is(value($node, q(SELECT n > 0 FROM tandem.latency('r', 'load', 'new', '2 hours'))), 't', 'also after the server has crashed as a whole');
is(value($node, q(SELECT count(*) FROM tandem.latency('r'))), 0, 'minutes are gone');
value($node, q(SELECT tandem.observe('r', 'load', 'new', '1 ms')));
is(value($node, q(SELECT since = (SELECT counting_since FROM tandem.observe_memory) FROM tandem.latency('r'))), 't', '... and since when they are complete is told');
$node->stop;

# --- full memory, and more sessions than stripes: what finds no room is counted
my $small = tandem_node('small', preload => 1, conf => "$settings\ntandem.observe_memory = '256kB'\n");
$small->start;
{
	my $node = $small;
	value($node, $make);
	value($node, q(SELECT count(tandem.add_operation('r', 'op ' || i, '1 ms')) FROM generate_series(1, 10000) AS i));
	value($node, q(SELECT count(tandem.observe('r', 'op ' || i, 'new', i * interval '1 ms')) FROM generate_series(1, 10000) AS i));
	is(value($node, q(SELECT (SELECT sum(n) FROM tandem.latency_totals WHERE operation LIKE 'op %') + dropped >= 10000 AND dropped > 0 AND bytes_used <= bytes_limit AND series = series_limit FROM tandem.observe_memory)), 't',
		'10,000 operations: those that find no room are counted');
	is(sqlstate($node, q(SELECT FROM legacy.item WHERE id = 1; UPDATE store.item SET qty = 1 WHERE id = 1)), '', '... and no statement fails');
	value($node, q(SELECT count(tandem.observe('r', 'op 1', 'new', (2 ^ (random() * 36))::bigint * interval '1 microsecond')) FROM generate_series(1, 10000) AS i));
	is(value($node, q(SELECT n FROM tandem.latency_totals WHERE operation = 'op 1')), 10001, '... and what has a series is counted in full');
	my $file = PostgreSQL::Test::Utils::tempdir('stripes') . '/observe.pgbench';
	PostgreSQL::Test::Utils::append_to_file($file, q(SELECT tandem.observe('r', 'op 1', 'new', '1 ms');));
	IPC::Run::run([ $node->installed_command('pgbench'), '-n', '-c', 60, '-t', 50, '-f', $file, $node->connstr('postgres') ], '>', '/dev/null', '2>', \my $err);
	is(value($node, q(SELECT n FROM tandem.latency_totals WHERE operation = 'op 1')), 13001, '... also by more sessions than there are stripes for');
}
$small->stop;

# --- a standby has what was saved, and counts what it is asked; it saves nothing
{
	my $primary = tandem_node('primary', preload => 1, conf => "$settings\nhot_standby_feedback = on\n", init => [ allows_streaming => 1 ]);
	$primary->start;
	value($primary, $make);
	value($primary, q(SELECT tandem.observe('r', 'checkout', 'new', '1 ms'), tandem.observe_round()));
	$primary->backup('backup');
	my $standby = tandem_node('standby', from_backup => [ $primary, 'backup', has_streaming => 1 ]);
	$standby->start;
	$primary->wait_for_catchup($standby);
	value($standby, 'SELECT FROM legacy.item; SELECT FROM store.item');
	is(value($standby, q(SELECT string_agg(concat_ws(' ', operation, side, n), ', ' ORDER BY 1) FROM tandem.latency('r', span => '1 minute') AS l (operation, side, n))), 'select legacy 1, select new 1', 'a standby counts its statements');
	is(value($standby, q(SELECT n FROM tandem.latency('r', 'checkout', span => '1 day'))), 1, '... and has the history');
	value($standby, "SELECT * FROM tandem.$_") foreach qw(latency latency_totals latency_comparison latency_trend operation_counts observe_memory);
	is(sqlstate($standby, q(SELECT tandem.observe('r', 'checkout', 'new', '1 ms'))), '', '... and counts what it is told');
	$_->stop foreach $standby, $primary;
}

# --- the clock is set back and forth: the server's, by a library in front of the C library
SKIP: {
	my $folder = PostgreSQL::Test::Utils::tempdir('clock');
	PostgreSQL::Test::Utils::append_to_file("$folder/clock.c", <<~'C');
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <fcntl.h>
		#include <stdlib.h>
		#include <sys/mman.h>
		#include <sys/time.h>
		#include <time.h>
		static volatile long long *shift;
		static void look(void) {
		    if (shift == 0) {
		        const char *file = getenv("CLOCK_FILE");
		        int fd = file ? open(file, O_RDONLY) : -1;
		        static long long none;
		        void *p = fd < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
		        shift = p == MAP_FAILED ? &none : p;
		    }
		}
		int gettimeofday(struct timeval *tv, void *tz) {
		    static int (*real)(clockid_t, struct timespec *);
		    struct timespec ts;
		    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
		    look();
		    real(CLOCK_REALTIME, &ts);
		    tv->tv_sec = ts.tv_sec + *shift;
		    tv->tv_usec = ts.tv_nsec / 1000;
		    return 0;
		}
		int clock_gettime(clockid_t id, struct timespec *ts) {
		    static int (*real)(clockid_t, struct timespec *);
		    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
		    look();
		    int r = real(id, ts);
		    if (id == CLOCK_REALTIME) ts->tv_sec += *shift;
		    return r;
		}
		C
	system('cc', '-shared', '-fPIC', '-O2', '-o', "$folder/clock.so", "$folder/clock.c", '-ldl') == 0 or skip 'no C compiler', 1;
	my $set_clock = sub { open my $file, '+<', "$folder/shift" or die $!; binmode $file; syswrite $file, pack('q', $_[0]); close $file; return; };
	PostgreSQL::Test::Utils::append_to_file("$folder/shift", pack('q', 0));
	my $node = tandem_node('clock', preload => 1, conf => $settings);
	{
		local $ENV{LD_PRELOAD} = "$folder/clock.so";
		local $ENV{CLOCK_FILE} = "$folder/shift";
		$node->start;
	}
	value($node, $make);
	my $said = value($node, 'SELECT clock_timestamp()');
	my $observed = 0;
	foreach my $shift (0, -3600 * 5, 3600 * 24 * 40, -3600 * 24 * 400, 0)
	{
		$set_clock->($shift);
		value($node, q(SELECT tandem.observe('r', 'checkout', 'new', '150 ms') FROM generate_series(1, 10)));
		$observed += 10;
		is(value($node, q(SELECT string_agg(n::text, ' ') FROM (SELECT n FROM unnest('{1 minute,5 minutes,1 hour,1 day}'::interval[]) AS span, LATERAL tandem.latency('r', 'checkout', 'new', span)) AS x)),
			join(' ', ($observed) x 4), "clock moved by $shift s: nothing leaves a window, nothing comes twice");
		is(value($node, q(SELECT count(*) FILTER (WHERE abs(extract(epoch FROM at - clock_timestamp())) > 130) FROM tandem.latency_series('r', 'checkout'))), 0, '... and points are told where they are from now');
		value($node, 'SELECT tandem.observe_round()');
	}
	is(value($node, q(SELECT sum(n) FROM tandem.latency_hour WHERE operation = 'checkout')), $observed, '... nor is anything twice in the history');
	isnt(value($node, 'SELECT clock_timestamp()'), $said, 'the clock was that of the test');
	$set_clock->(-86400);
	cmp_ok(value($node, q(SELECT extract(epoch FROM clock_timestamp()))), '<', time() - 80000, '... which it moved');
	$node->stop;
}
done_testing();
