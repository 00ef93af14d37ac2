# Schedules at random: writers on both sides, through route() and past it, while the run is promoted, rolled back in every way, paused, throttled, cancelled and
# begun anew, tables are altered, sessions and workers are ended, and the server crashes. The oracle is a ledger that each transaction writes itself: what it
# says, and nothing else, is on both sides in the end; no run is stuck, no rollback was false, and the events tell the story.
#
#   TANDEM_SEED=4711 TANDEM_RANDOM_SECONDS=600 make test ONLY=tap TESTS=schedules      the same choices again, for longer
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();
my $seconds = $ENV{TANDEM_RANDOM_SECONDS} // ($ENV{TANDEM_QUICK} ? 8 : 24);
my $node = tandem_node('schedules', preload => 1,
	conf => "tandem.naptime = '100ms'\ndeadlock_timeout = '100ms'\nrestart_after_crash = on\nmax_connections = 50\n");
$node->start;
value($node, "SET client_min_messages = warning;\n" . slurp_file("$FindBin::Bin/$_")) foreach qw(schedules/setup.sql replay.sql);

# --- writers: psql with a script of transactions, each with a number. Whose COMMIT was answered is acknowledged.

# Numbers below n at random, of one writer: who is started when does not change the choices of the others.
sub dice
{
	my $state = shift() & 0x7fffffff;
	return sub { $state = ($state * 1103515245 + 12345) & 0x7fffffff; return ($state >> 8) % $_[0]; };
}

my %entries = ('insert' => 5, 'insert many' => 1, 'upsert' => 4, 'update' => 8, 'update many' => 2, 'move' => 4, 'delete' => 4, 'delete many' => 1);
my @ops = map { ($_) x $entries{$_} } sort keys %entries;

# A statement. What is to be undone writes a value below 0: it must be nowhere in the end.
sub statement
{
	my ($dice, $transaction, $undone) = @_;
	my $op = $ops[ $dice->(scalar @ops) ];
	my $key = 1 + $dice->(400);
	my $other = 1 + ($key + $dice->(398)) % 400;
	my $value = (1 + $dice->(1_000_000)) * ($undone ? -1 : 1);
	my $tab = (qw(account note))[ $dice->(2) ];
	my $side = (qw(route route route legacy store))[ $dice->(5) ];
	return "SELECT work.write($transaction, '$tab', '$op', '$side', $key, $value, $other);\n";
}

my $transactions = 0;
sub script
{
	my ($dice) = @_;
	my $text = "\\set VERBOSITY verbose\n";
	for (1 .. 3000)
	{
		my $n = ++$transactions;
		my $kind = $dice->(10);
		my $undone = $kind == 0;
		$text .= "BEGIN;\n" . statement($dice, $n, $undone);
		if ($kind <= 5)
		{
			for (1 .. 1 + $dice->(2))
			{
				my $back = $dice->(2);
				$text .= "SAVEPOINT s;\n" . statement($dice, $n, $undone || $back);
				$text .= $back ? "ROLLBACK TO s;\n" : $dice->(2) ? "RELEASE s;\n" : '';
			}
		}
		$text .= 'SELECT pg_sleep(' . $dice->(100) / 1000 . ");\n" if $kind == 9;
		$text .= "INSERT INTO work.done VALUES ($n);\n\\echo transaction $n\n" . ($undone ? "ROLLBACK;\n" : "COMMIT;\n");
		$text .= "SELECT stop FROM work.present \\gset\n\\if :stop\n\\quit\n\\endif\n" . 'SELECT pg_sleep(' . (5 + $dice->(20)) / 1000 . ");\n";
	}
	return $text;
}

my @lives;    # of writers, with the files of what they said
my @writers;  # who is at work
sub start_writer
{
	my ($n) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir('writer');
	PostgreSQL::Test::Utils::append_to_file("$folder/script", script(dice($seed * 1000 + 10 * @lives + $n)));
	my %writer = (out => "$folder/out", err => "$folder/err");
	$writer{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAt', '-d', $node->connstr('postgres') . ' application_name=writer', '-f', "$folder/script" ],
		'<', '/dev/null', '>', $writer{out}, '2>', $writer{err});
	push @lives, \%writer;
	$writers[$n] = \%writer;
	return;
}

sub start_writers
{
	foreach my $n (0 .. 3)
	{
		start_writer($n) unless $writers[$n] && $writers[$n]{run}->pumpable;
	}
	return;
}

# --- what is done to them
my %story;    # action => outcome => how often
my @unexpected;

# Refused as the run stands, or gave way to somebody.
sub say_sql
{
	my ($action, $sql, @also) = @_;
	$sql =~ s/\bRUN\b/(SELECT run FROM work.present)/g;
	my ($status, undef, $err) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ], on_error_stop => 1);
	my $outcome = $status == 0 ? 'done' : $err =~ /(?:ERROR|FATAL):  (\w{5})/ ? $1 : $err;
	$story{$action}{$outcome}++;
	push @unexpected, "$action: $err" if $err =~ /sides differ/ || !grep { $outcome eq $_ } qw(done 55000 40P01 55P03 22023), @also;
	return $outcome;
}

sub pick { return $_[ rand @_ ]; }

sub end_sessions
{
	my ($action, $how, $whom) = @_;
	return say_sql($action, "SELECT $how(pid) FROM pg_stat_activity WHERE $whom ORDER BY random() LIMIT 1");
}

sub wait_until_up
{
	wait_until($node, 'NOT pg_is_in_recovery()') or die 'the server did not come back';
	return;
}

sub crash
{
	my $how = pick('immediate stop', 'kill -9 of the postmaster', 'kill -9 of a worker');
	if ($how eq 'immediate stop')
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($how eq 'kill -9 of the postmaster')
	{
		kill_postmaster($node);
	}
	else
	{
		my $pid = value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('pg_tandem executor', 'pg_tandem coordinator') ORDER BY backend_type DESC LIMIT 1");
		kill_process($node, $pid);
	}
	wait_until_up();
	$story{$how}{done}++;
	return;
}

my $tables = 0;
my %actions = (
	'promote' => [ 10, sub { say_sql('promote', 'SELECT tandem.promote(RUN' . pick('', '', ', 50', ', 100') . ')') } ],
	'rollback' => [ 4, sub { my $strategy = pick(qw(emergency integrity complete)); say_sql("rollback $strategy", "SELECT tandem.rollback(RUN, 'at random', strategy => '$strategy')") } ],
	'rollback of a domain' => [ 3, sub { my ($domain, $strategy) = (pick(qw(money words)), pick(qw(domain integrity)));
		say_sql("rollback of a domain, $strategy", "SELECT tandem.rollback(RUN, 'at random', '$domain', '$strategy')") } ],
	'retry' => [ 12, sub { say_sql('retry', 'SELECT tandem.retry(RUN)') } ],
	'pause' => [ 3, sub { say_sql('pause', 'SELECT tandem.pause(RUN)') } ],
	'resume' => [ 8, sub { say_sql('resume', 'SELECT tandem.resume(RUN)') } ],
	'set_domain' => [ 4, sub { my ($domain, $on) = (pick(qw(money words)), pick(qw(true true false))); say_sql("set_domain $on", "SELECT tandem.set_domain(RUN, '$domain', $on)") } ],
	'checkpoint' => [ 1, sub { say_sql('checkpoint', "SELECT tandem.checkpoint(RUN, 'at random')") } ],
	'resume_from' => [ 2, sub { say_sql('resume_from', 'SELECT tandem.resume_from(RUN)', '42704') } ],
	'cancel' => [ 2, sub { say_sql('cancel', 'SELECT tandem.cancel(RUN)') } ],
	'begin anew' => [ 12, sub { say_sql('begin anew', 'SELECT work.begin_anew()') } ],
	'cancel and begin anew' => [ 1, sub { say_sql('cancel and begin anew', 'SELECT work.cancel_and_begin_anew()') } ],
	'throttle' => [ 3, sub { my ($size, $delay) = (pick(10, 40, 500), pick(0, 5, 20)); say_sql('throttle', "SELECT tandem.throttle(RUN, batch_size => $size, delay => '$delay ms')") } ],
	'validate' => [ 2, sub { say_sql('validate', 'SELECT tandem.validate(RUN' . pick('', ', changes_only => true') . ')') } ],
	'tick' => [ 2, sub { say_sql('tick', 'SELECT tandem.tick()') } ],
	'options' => [ 2, sub { my $n = pick(1, 2); say_sql('set_option', "SELECT tandem.set_option(RUN, 'consecutive', '$n')") } ],
	'DDL on other tables' => [ 4, sub { my $n = ++$tables; say_sql('DDL on other tables', <<~"SQL") } ],
		CREATE TABLE work.table_$n (id integer PRIMARY KEY, account integer, v text);
		CREATE INDEX ON work.table_$n (account);
		ALTER TABLE work.table_$n ALTER v TYPE varchar(20), ADD COLUMN w integer;
		INSERT INTO work.table_$n SELECT i, i, 'x' FROM generate_series(1, 100) AS i;
		TRUNCATE work.table_$n;
		DROP TABLE IF EXISTS work.table_${\($n - 1)};
		SQL
	'DDL on mapped tables' => [ 4, sub { my ($n, $table) = (++$tables, pick(qw(legacy.account store.account legacy.note store.note))); say_sql('DDL on mapped tables', pick(
		"ANALYZE $table", "VACUUM $table", "COMMENT ON TABLE $table IS 'comment $n'", "CREATE INDEX index_$n ON $table (hits);\nDROP INDEX ${\($table =~ s/\..*//r)}.index_$n",
		"ALTER TABLE $table ADD COLUMN more_$n integer")) } ],
	'DDL that breaks the mirror' => [ 3, sub { my $table = pick(qw(legacy.account store.account legacy.note store.note));
		my $ddl = pick('DROP TABLE %s CASCADE', 'ALTER TABLE %s RENAME TO other', 'ALTER TABLE %s DROP COLUMN hits CASCADE');
		say_sql('DDL that breaks the mirror', "SELECT work.break_mirror('$table', '$ddl')", '55006') } ],
	'terminate a writer' => [ 2, sub { end_sessions('terminate a writer', 'pg_terminate_backend', "application_name = 'writer'") } ],
	'cancel a writer' => [ 3, sub { end_sessions('cancel a writer', 'pg_cancel_backend', "application_name = 'writer'") } ],
	'terminate a worker' => [ 2, sub { end_sessions('terminate a worker', 'pg_terminate_backend', "backend_type LIKE 'pg_tandem %'") } ],
	'cancel a worker' => [ 2, sub { end_sessions('cancel a worker', 'pg_cancel_backend', "backend_type LIKE 'pg_tandem %'") } ],
	'crash' => [ 2, \&crash ],
);
my @actions = map { ($_) x $actions{$_}[0] } sort keys %actions;

start_writers();
say_sql('begin anew', 'SELECT work.begin_anew()');
my ($end, $done) = (time() + $seconds, 0);
my $few = sub { return value($node, 'SELECT count(*) <= 100 FROM work.done') eq 't' };
while (time() < $end || ($few->() && time() < $end + 100))
{
	usleep(1000 * int rand 150);
	$actions{ pick(@actions) }[1]->();
	$done++;
	start_writers();
}

value($node, 'UPDATE work.present SET stop = true');
$_->{run}->finish foreach @writers;    # each says what it has to say
diag("$done actions, " . @lives . ' lives of writers: ' . join '; ', map { my $action = $_; "$action: " . join ', ', map { "$_ $story{$action}{$_}" } sort keys %{ $story{$action} } } sort keys %story);
diag('moves: ' . value($node, "SELECT string_agg(x.kind || ' ' || x.n, ', ' ORDER BY x.kind) FROM (SELECT kind, count(*) AS n FROM tandem.event WHERE kind IN (SELECT verb FROM tandem.run_law()) GROUP BY kind) AS x"));
is(join("\n", @unexpected), '', 'every verb was done, or refused as the run stood');

# --- no run is stuck
my $state = '';
my $patient_until = time() + 120;
while (time() < $patient_until)
{
	$state = value($node, <<~'SQL');
		SELECT CASE WHEN r.stage = 'off' THEN 'off' WHEN r.phase IN ('degraded', 'paused') THEN r.phase
		            WHEN EXISTS (SELECT FROM tandem.domains AS d WHERE d.run = r.run AND NOT d.enabled) THEN 'without a domain'
		            WHEN r.stage IN ('shadow', 'live') AND r.differences = 0 AND r.validated_at > r.moved_at THEN 'in step' ELSE 'under way' END
		  FROM tandem.runs AS r JOIN work.present AS p ON p.run = r.run
		SQL
	last if $state eq 'in step';
	say_sql('in the end: begin anew', 'SELECT work.begin_anew()') if $state eq 'off';
	say_sql('in the end: retry', 'SELECT tandem.retry(RUN)') if $state eq 'degraded';
	say_sql('in the end: resume', 'SELECT tandem.resume(RUN)') if $state eq 'paused';
	say_sql('in the end: set_domain', 'SELECT tandem.set_domain(run, domain, true) FROM tandem.domains WHERE run = RUN AND NOT enabled LIMIT 1') if $state eq 'without a domain';
	usleep(100_000);
}
is($state, 'in step', 'the run goes on, and both sides are equal')
  or diag(value($node, 'SELECT concat_ws($$ $$, run, stage, phase, weight, waiting_for, error) FROM tandem.runs'), "\n", value($node, 'SELECT * FROM tandem.differences LIMIT 10'));
is(value($node, "SELECT count(*) FROM tandem.runs AS r WHERE phase <> 'cancelled' AND run <> (SELECT run FROM work.present)"), 0, 'all runs before it are over');

# --- the oracle: what the ledger says, entry by entry, and nothing else
my (%acknowledged, %undone, @errors);
foreach my $life (@lives)
{
	my ($out, $err) = map { slurp_file($_) } @$life{qw(out err)};
	while ($out =~ /^transaction (\d+)\n(COMMIT|ROLLBACK)$/mg)
	{
		($2 eq 'COMMIT' ? \%acknowledged : \%undone)->{$1} = 1;
	}
	# Conflicts of keys and of transactions, the write fence, what stands behind one, a cancel, the end of a session or of the server
	push @errors, grep { /(?:ERROR|FATAL|PANIC):  (\w{5})/ && $1 !~ /^(?:23505|40P01|40001|25P02|3B001|57014|57P0[1-3]|TD001)$/ } split /^/, $err;
}
is(join('', @errors), '', 'no writer met an unexpected error');
my %done = map { $_ => 1 } split /\n/, value($node, 'SELECT transaction FROM work.done');
cmp_ok(scalar keys %acknowledged, '>', 50, keys(%acknowledged) . ' transactions were acknowledged, ' . keys(%undone) . ' undone');
is(join(' ', grep { !$done{$_} } sort keys %acknowledged), '', 'every transaction that was acknowledged is there');
is(join(' ', grep { $done{$_} } sort keys %undone), '', 'none that was undone');

sub ledger
{
	my (%row, @wrong);
	my %written;
	foreach (split /\n/, value($node, "SELECT concat_ws(' ', seq, transaction, tab, replace(op, ' ', '_'), side, early, key, coalesce(from_key, -1), value, hits, gone) FROM work.ledger ORDER BY seq"))
	{
		my (undef, $transaction, $tab, $op, undef, $early, $key, $from, $value, $hits, $gone) = split / /;
		push @wrong, "of no transaction: $_" if !$done{$transaction};
		$written{$op}++;
		my ($before, $there) = map { $row{"$tab $_"} } $from, $key;
		my $free = !$there || $early eq 't'; # who writes the new side before all is copied may write a key anew
		my $follows =
		    $gone eq 't' ? $there && $there->[0] == $value && $there->[1] == $hits
		  : $from < 0    ? $free
		  : $before && $before->[1] == $hits - 1 && ($from == $key || $free);
		if (!$follows)
		{
			push @wrong, "does not follow from what was written before ("
			  . join(', ', map { $row{"$tab $_"} ? "$_ is @{ $row{\"$tab $_\"} }" : "$_ is not there" } $from, $key) . "): $_";
		}
		delete $row{"$tab $from"};
		delete $row{"$tab $key"};
		$row{"$tab $key"} = [ $value, $hits ] unless $gone eq 't';
	}
	return ({ map { $_ => "@{ $row{$_} }" } keys %row }, \@wrong, \%written);
}
my ($rows, $wrong, $written) = ledger();
is(join("\n", @$wrong[ 0 .. ($#$wrong < 9 ? $#$wrong : 9) ]), '', 'every write followed from the one before it: none was lost on the way');
diag(keys(%acknowledged) . ' transactions acknowledged; rows written: ' . join ', ', map { "$_ $written->{$_}" } sort keys %$written);

sub compare_with_ledger
{
	my ($side) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %there = map { my ($tab, $key, $value, $hits) = split / /; ("$tab $key" => "$value $hits") } split /\n/, value($node, <<~"SQL");
		SELECT concat_ws(' ', 'account', key, value, hits) FROM work.${side}_account UNION ALL SELECT concat_ws(' ', 'note', key, value, hits) FROM work.${side}_note
		SQL
	my %all = (%$rows, %there);
	my @differ = map { "$_: " . ($there{$_} // 'not there') . ', by the ledger ' . ($rows->{$_} // 'not there') } grep { ($there{$_} // '') ne ($rows->{$_} // '') } sort keys %all;
	is(join("\n", @differ), '', "$side has what the ledger says: " . keys(%there) . ' rows');
	is(join("\n", grep { $there{$_} =~ /^-/ } sort keys %there), '', '... and nothing that was undone');
	return;
}
compare_with_ledger($_) foreach qw(legacy store);
is(value($node, <<~'SQL'), 0, 'both sides hold the same rows, by a FULL JOIN');
	SELECT (SELECT count(*) FROM legacy.account AS l FULL JOIN store.account AS s ON s.account_id = l.id WHERE (l.id, l.owner, l.qty, l.hits) IS DISTINCT FROM (s.account_id, s.holder, s.quantity, s.hits))
	     + (SELECT count(*) FROM legacy.note AS l FULL JOIN store.note AS s ON s.n = l.n WHERE (l.n, l.mark, l.hits) IS DISTINCT FROM (s.n, s.mark, s.hits))
	SQL

# --- nothing that happened was taken for a difference
is(value($node, 'SELECT p FROM tandem.rollback_proofs AS p WHERE automatic ORDER BY proof LIMIT 5'), '', 'no false rollback');
is(value($node, 'SELECT d FROM tandem.differences AS d ORDER BY id LIMIT 10'), '', 'no comparison ever found a difference');
is(value($node, "SELECT p FROM tandem.rollback_proofs AS p WHERE verdict IN ('explained', 'unexplained') LIMIT 5"), '', 'no proof did');
is(value($node, 'SELECT f FROM tandem.mirror_failures AS f LIMIT 5'), '', 'the new side refused nothing');
is(value($node, "SELECT DISTINCT reason FROM tandem.event WHERE kind = 'round_failed' AND NOT evidence ->> 'sqlstate' IN ('40P01', '57014', '57P01')"), '', 'no round failed, but to give way, or as it was ended');

# --- the end, and the story
becomes($node, "weight = 100 FROM tandem.runs WHERE run = (SELECT run FROM work.present)", 'the worker takes the run to its last step');
my $completed = '';
$patient_until = time() + 120;
while (time() < $patient_until)
{
	last if ($completed = say_sql('complete', 'SELECT tandem.complete(run, run) FROM work.present')) eq 'done';
	usleep(100_000); # a round that compares
}
is($completed, 'done', 'it is completed');
compare_with_ledger('store');
is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'no mirror is left');
is(value($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM test.replay(); COMMIT'), '', 'every event follows from the one before by the law');
is(value($node, 'SELECT ok FROM tandem.audit_verify()'), 't', 'and none is missing');

$node->stop;
done_testing();
