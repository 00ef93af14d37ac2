# The audit record under writers that commit out of order, abort, prepare and crash; every random tampering must be found, at the right number;
# dump and restore, the turn of a month, retention. The oracle of the digests is SQL (docs/audit.md), that of the tampering is the test itself.
use strict;
use warnings;
use TandemCluster;
use RunHelpers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $node = tandem_node('audit', preload => 1, conf => "max_prepared_transactions = 5\ntandem.naptime = '100ms'\nautovacuum = off\nrestart_after_crash = on\n");
$node->start;
value($node, 'CREATE EXTENSION pg_tandem');

my $sealed = "sealed_seq = last_seq FROM tandem.audit_status()";
# A task's or a run's event, or an operator's, with every column now and then NULL.
value($node, <<~'SQL');
	CREATE FUNCTION some_event(i integer, at timestamptz DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	    SELECT tandem.append_event('kind_' || i % 7, CASE WHEN i % 3 = 0 THEN 'reason ' || i || ' äöü' END,
	        CASE WHEN i % 5 = 0 THEN jsonb_build_object('i', i, 'n', 1.50, 'deep', jsonb_build_array(NULL, true, 'ß' || i)) END,
	        run => CASE WHEN i % 2 = 0 THEN 'run_' || i % 3 END, stage => CASE WHEN i % 2 = 0 THEN 'live' END, phase => CASE WHEN i % 2 = 0 THEN 'paused' END,
	        weight => CASE WHEN i % 2 = 0 THEN i % 100 END, epoch => CASE WHEN i % 2 = 0 THEN i END, at => at,
	        task_id => CASE WHEN i % 2 = 1 THEN md5(i::text)::uuid END, state => CASE WHEN i % 2 = 1 THEN 'running' END, version => CASE WHEN i % 2 = 1 THEN i END)
	$$;
	CREATE VIEW row_digest AS
	SELECT e.seq, sha256((SELECT string_agg(CASE WHEN v IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || int4send(length(v)) || v END, '' ORDER BY i)
	  FROM (VALUES (1, int8send(seq)), (2, timestamptz_send(at)), (3, pg_lsn_send(lsn)), (4, convert_to(kind, 'UTF8')), (5, convert_to(actor, 'UTF8')),
	    (6, convert_to(role, 'UTF8')), (7, convert_to(client, 'UTF8')), (8, convert_to(reason, 'UTF8')), (9, convert_to(run, 'UTF8')), (10, convert_to(stage, 'UTF8')),
	    (11, convert_to(phase, 'UTF8')), (12, int4send(weight)), (13, int8send(epoch)), (14, uuid_send(task_id)), (15, convert_to(state, 'UTF8')),
	    (16, int8send(version)), (17, convert_to(evidence::text, 'UTF8'))) AS c (i, v))) AS digest
	  FROM tandem.event AS e;
	CREATE VIEW seals_by_oracle AS
	SELECT s.to_seq, s.rows = r.rows AND s.row_count = r.n
	       AND s.head = sha256(coalesce(lag(s.head) OVER (ORDER BY s.to_seq), decode(repeat('00', 32), 'hex')) || int8send(s.after_seq) || int8send(s.to_seq) || timestamptz_send(s.sealed_at) || r.rows) AS good
	  FROM tandem.audit_seal AS s CROSS JOIN LATERAL (
	       SELECT string_agg(int4send((d.seq - s.after_seq)::integer) || substr(d.digest, 1, 16), '' ORDER BY d.seq) AS rows, count(*) AS n
	         FROM row_digest AS d WHERE d.seq > s.after_seq AND d.seq <= s.to_seq) AS r;
	SQL

# pgbench to its end, without errors.
sub bench
{
	my ($what, $scripts, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $folder = PostgreSQL::Test::Utils::tempdir('bench');
	my @files;
	foreach my $script (sort keys %$scripts)
	{
		my ($file, $weight) = split /@/, $script;
		PostgreSQL::Test::Utils::append_to_file("$folder/$file", $scripts->{$script});
		push @files, '-f', "$folder/$file@" . ($weight // 1);
	}
	$node->command_ok([ 'pgbench', '-n', @options, @files, $node->connstr($RunHelpers::database) ], $what);
	return;
}

sub genuine
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, 'SELECT ok, first_bad, rows, reason FROM tandem.audit_verify()'),
		't||' . value($node, 'SELECT count(*) FROM tandem.event WHERE seq <= (SELECT sealed_seq FROM tandem.audit_status())') . '|', $what);
}

subtest 'the first events of all, by many at once' => sub {
	bench('they write', { 'first' => "SELECT some_event(1);\n" }, '-c', 12, '-j', 4, '-t', 5);
	is(value($node, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'tandem.event'::regclass"), 1, 'one made the partition, the others waited for it');
	is(value($node, 'SELECT count(*) FROM tandem.event'), 60, 'and nothing was lost');
};

subtest 'nobody holds sealing up' => sub {
	value($node, 'CREATE ROLE stranger LOGIN');
	my $session = $node->background_psql('postgres', extra_params => [ '-U', 'stranger' ]);
	$session->query("SELECT count(pg_advisory_lock(c.oid::integer, n)) FROM pg_class AS c, generate_series(0, 3) AS n WHERE c.relname LIKE 'audit%'");
	value($node, 'SELECT some_event(1)');
	becomes($node, $sealed, 'by advisory locks');
	$session->quit;
};

subtest 'writers that commit late, abort and prepare' => sub {
	my $prepared = value($node, "BEGIN; SELECT some_event(2); PREPARE TRANSACTION 'later'");
	bench('they write', {
		'one@6' => "\\set i random(1, 1000)\nSELECT some_event(:i);\n",
		'late@2' => "\\set i random(1, 1000)\n\\set ms random(1, 50)\nBEGIN;\nSELECT some_event(:i);\n\\sleep :ms ms\nSELECT some_event(:i + 1);\nCOMMIT;\n",
		'abort@2' => "\\set i random(1, 1000)\nBEGIN;\nSELECT some_event(:i);\nROLLBACK;\n",
		'savepoint@2' => "\\set i random(1, 1000)\nBEGIN;\nSAVEPOINT s;\nSELECT some_event(:i);\nROLLBACK TO s;\nSELECT some_event(:i);\nCOMMIT;\n",
	}, '-c', 8, '-j', 2, '-T', 4, '-R', 500);
	is(value($node, 'SELECT coalesce(sealed_seq, 0) < ' . $prepared . ' FROM tandem.audit_status()'), 't', 'nothing is sealed past the number of a prepared transaction');
	is(value($node, "SELECT lag > interval '1 second' FROM tandem.audit_status()"), 't', '... and the lag says so');
	value($node, "COMMIT PREPARED 'later'");
	becomes($node, $sealed, 'once it is decided everything is sealed');
	genuine('as it is');
	is(value($node, 'SELECT count(*) FROM tandem.event') - value($node, 'SELECT sum(row_count) FROM tandem.audit_seal'), 0, 'every event stands in one seal');
	is(value($node, 'SELECT bool_and(good) FROM seals_by_oracle'), 't', 'seals, computed by the oracle');
	is(value($node, "SET TimeZone = 'Asia/Tokyo'; SET bytea_output = escape; SET extra_float_digits = -5; SET IntervalStyle = iso_8601; SET DateStyle = german; SELECT ok FROM tandem.audit_verify()"), 't', 'whatever a session has set');
	is(value($node, "SELECT some_event(3); BEGIN; SELECT some_event(4); SELECT tandem.audit_seal_round(), tandem.audit_seal_round(); SELECT (SELECT max(to_seq) FROM tandem.audit_seal) < (SELECT max(seq) FROM tandem.event)") =~ /t$/, 1, 'a transaction does not seal what it has not committed');
};

subtest 'a crash between event and seal' => sub {
	foreach my $round (1 .. ($ENV{TANDEM_QUICK} ? 2 : 3))
	{
		my $writers = traffic($node, "crash$round", { 'one' => "\\set i random(1, 1000)\nSELECT some_event(:i);\n" }, '-c', 4, '-R', 500);
		select undef, undef, undef, 0.3 + $round * 0.4;
		kill_process($node, value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tandem coordinator' LIMIT 1")) if $round == 1;
		$node->stop('immediate') if $round > 1;
		$writers->{run}->signal('KILL');
		eval { $writers->{run}->finish; };
		$node->start if $round > 1;
		becomes($node, $sealed, "round $round: sealing goes on behind the crash");
		genuine('and the record is genuine');
	}
};

# Each of these changes one thing, and says which number must be named: SQL, then that number (NULL: none).
sub tampering
{
	my $last = value($node, 'SELECT max(to_seq) FROM tandem.audit_seal');
	my $some = sub { return value($node, "SELECT seq FROM tandem.event WHERE seq <= $last AND kind <> 'retention' ORDER BY random() LIMIT 1") }; # without its event, all that was dropped is missing
	my $a = $some->();
	my $min = sub { my ($x, $y) = @_; return $x < $y ? $x : $y };
	my %new = (
		at => "at + interval '1 microsecond' * CASE WHEN at < date_trunc('month', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '27 days' THEN 1 ELSE -1 END",
		lsn => 'lsn + 1', weight => 'coalesce(weight + 1, 0)', epoch => 'coalesce(epoch + 1, 0)', version => 'coalesce(version + 1, 0)',
		task_id => "CASE WHEN task_id IS NULL THEN md5('x')::uuid END",
		evidence => q(CASE WHEN evidence IS NULL THEN '{}' ELSE jsonb_set(evidence, '{n}', '1.5') END),
		(map { $_ => "coalesce($_ || 'x', '')" } qw(kind actor role client reason run stage phase state)));
	my $which = int(rand(14));
	if ($which < 6)
	{
		my @columns = sort keys %new;
		my $column = $columns[ rand @columns ];
		return ("column $column", "UPDATE tandem.event SET $column = $new{$column} WHERE seq = $a", $a);
	}
	if ($which == 6)
	{
		my $b = value($node, "SELECT n FROM generate_series(-3, $last + 5) AS n WHERE n <> $a ORDER BY random() LIMIT 1");
		return ("number $a to $b", "UPDATE tandem.event SET seq = $b WHERE seq = $a", $b > $last ? $a : $min->($a, $b));
	}
	return ("deleted", "DELETE FROM tandem.event WHERE seq = $a", $a) if $which == 7;
	if ($which == 8)
	{
		my $b = int(rand($last + 10)) - 3;
		return ("inserted $b", "INSERT INTO tandem.event SELECT (jsonb_populate_record(e, '{\"seq\": $b}')).* FROM tandem.event AS e WHERE seq = $a", $b > $last ? undef : $b);
	}
	if ($which == 9)
	{
		my $b = $some->();
		$b = $some->() while $b == $a;
		return ("swapped $a and $b", "UPDATE tandem.event SET seq = CASE seq WHEN $a THEN $b ELSE $a END WHERE seq IN ($a, $b)", $min->($a, $b));
	}
	my ($to, $after, $size) = split /\|/, value($node, 'SELECT to_seq, after_seq, length(rows) FROM tandem.audit_seal ORDER BY random() LIMIT 1');
	return ('seal deleted', "DELETE FROM tandem.audit_seal WHERE to_seq = $to", $after + 1) if $which == 10;
	return ('seal copied', "INSERT INTO tandem.audit_seal SELECT to_seq + 1, after_seq, sealed_at, row_count, rows, head FROM tandem.audit_seal WHERE to_seq = $to AND NOT EXISTS (SELECT FROM tandem.audit_seal WHERE to_seq = $to + 1)",
		value($node, "SELECT count(*) FROM tandem.audit_seal WHERE to_seq = $to + 1") ? undef : $after + 1) if $which == 11 && $to < $last;
	my $byte = int(rand($size));
	my @edits = (
		[ 'sealed_at', "sealed_at = sealed_at - interval '1 microsecond'", $after + 1 ], [ 'row_count', 'row_count = row_count + 1', $after + 1 ],
		[ 'rows', "rows = set_byte(rows, $byte, get_byte(rows, $byte) # 1)", $after + 1 ], [ 'head', 'head = set_byte(head, 5, get_byte(head, 5) # 128)', $after + 1 ],
		[ 'after_seq', 'after_seq = after_seq - 1', $after ], [ 'after_seq', 'after_seq = after_seq + 1', $after + 1 ],
		[ 'rows cut', 'rows = substr(rows, 21), row_count = row_count - 1', $after + 1 ]);
	my $edit = $edits[ rand @edits ];
	return ("seal: $edit->[0]", "UPDATE tandem.audit_seal SET $edit->[1] WHERE to_seq = $to", $edit->[2]);
}

# As a superuser who takes the triggers away; undone at the end.
sub behind_the_triggers
{
	my ($sql) = @_;
	my $partitions = value($node, "SELECT string_agg(format('ALTER TABLE %s DISABLE TRIGGER ALL', inhrelid::regclass), ';') FROM pg_inherits WHERE inhparent = 'tandem.event'::regclass");
	return "ALTER TABLE tandem.event DISABLE TRIGGER ALL; $partitions; ALTER TABLE tandem.audit_seal DISABLE TRIGGER ALL; ALTER TABLE tandem.audit_dropped DISABLE TRIGGER ALL; $sql;";
}

sub triggers_back
{
	value($node, "DO \$\$ BEGIN EXECUTE (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname), ';') FROM pg_trigger WHERE tgname LIKE 'refuse%'); END \$\$");
	return;
}

sub tamper
{
	my ($times) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($wrong, %kinds) = (0);
	foreach my $i (1 .. $times)
	{
		my ($what, $sql, $expected) = tampering();
		my $answer = value($node, 'BEGIN; ' . behind_the_triggers($sql) . ' SELECT ok, first_bad FROM tandem.audit_verify(); ROLLBACK');
		my $wanted = defined $expected ? "f|$expected" : 't|';
		# A range that holds the number finds it, too; the part before it is genuine.
		if ($answer eq $wanted && defined $expected && $expected > 1 && $i % 4 == 0)
		{
			my $before = $expected - 1;
			$answer .= ' ' . value($node, 'BEGIN; ' . behind_the_triggers($sql) . " SELECT ok, first_bad FROM tandem.audit_verify($expected, $expected + 10); SELECT ok FROM tandem.audit_verify(NULL, $before); ROLLBACK") =~ s/\n/ /r;
			$wanted .= " f|$expected";
			$answer =~ s/ [tf]$//; # a seal that was changed covers numbers before it, too
		}
		$kinds{ $what =~ s/[-\d ]+.*//r }++;
		next if $answer eq $wanted;
		$wrong++;
		diag("seed $seed, change $i, $what: $answer, but $wanted was expected: $sql");
	}
	note(join ', ', map { "$_ $kinds{$_}" } sort keys %kinds);
	is($wrong, 0, "$times random changes of rows and seals, each is found at its number");
}

subtest 'tampering' => sub {
	srand($seed);
	becomes($node, $sealed, 'all is sealed');
	value($node, 'SELECT setseed(' . ($seed % 1000) / 1000 . ')');
	tamper($ENV{TANDEM_QUICK} ? 25 : 100);
};

subtest 'a record that was rewritten from end to end' => sub {
	my ($seq, $head) = split /\|/, value($node, 'SELECT sealed_seq, head FROM tandem.audit_status()');
	value($node, 'SELECT some_event(9)');
	becomes($node, $sealed, 'sealing has gone on');
	is(value($node, "SELECT ok, head FROM tandem.audit_verify(NULL, $seq)"), "t|$head", 'the exported head is that of the chain there');
	value($node, behind_the_triggers("UPDATE tandem.event SET reason = 'innocent' WHERE seq = 5; DELETE FROM tandem.audit_seal; DELETE FROM tandem.audit_progress"));
	triggers_back();
	becomes($node, $sealed, 'who may do everything seals a forged record anew');
	is(value($node, 'SELECT ok FROM tandem.audit_verify()'), 't', 'it agrees with itself');
	isnt(value($node, "SELECT head FROM tandem.audit_verify(NULL, $seq)"), $head, '... but not with the head that was kept elsewhere');
	ok($node->log_contains("sealed up to event \\d+, head [0-9a-f]{64}"), 'and the server\'s log has one');
};

subtest 'seals that are taken away from under the worker' => sub {
	value($node, behind_the_triggers('DELETE FROM tandem.audit_seal WHERE to_seq = (SELECT max(to_seq) FROM tandem.audit_seal)'));
	triggers_back();
	my $expected = value($node, 'SELECT max(to_seq) + 1 FROM tandem.audit_seal');
	is(value($node, 'SELECT ok, first_bad FROM tandem.audit_verify()'), "f|$expected", 'the last seal is missed');
	value($node, 'SELECT some_event(10)');
	becomes($node, 'broken IS NOT NULL FROM tandem.audit_status()', 'nothing is sealed over it, and the status says why');
	is(value($node, 'SELECT ok, first_bad FROM tandem.audit_verify()'), "f|$expected", 'it is missed still');
	value($node, 'DELETE FROM tandem.audit_progress');
	becomes($node, $sealed, 'until a superuser lets it go on');
	genuine('from there');
};

subtest 'dump and restore' => sub {
	my ($seq, $head) = split /\|/, value($node, 'SELECT sealed_seq, head FROM tandem.audit_status()');
	my $folder = PostgreSQL::Test::Utils::tempdir('dump');
	value($node, 'SELECT some_event(i) FROM generate_series(1, 50) AS i');
	value($node, "SELECT some_event(1, now() + interval '40 days')");
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", '-d', $node->connstr('postgres') ], 'the dump is made');
	foreach my $encoding ('UTF8', 'LATIN1')
	{
		my $name = lc "into_$encoding";
		value($node, "CREATE DATABASE $name TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
		my @restore = ('pg_restore', '-d', $node->connstr($name));
		$node->command_ok([ @restore, '--section=pre-data', "$folder/dump" ], "$encoding: the tables come");
		local $RunHelpers::database = $name;
		is(sqlstate($node, "SELECT tandem.append_event('too soon')"), '55000', 'no event takes a number that is about to come');
		$node->command_ok([ @restore, '--section=data', "$folder/dump" ], 'their rows');
		select undef, undef, undef, 0.5;
		is(value($node, 'SELECT count(*) FROM tandem.audit_progress'), 0, 'nothing is sealed meanwhile');
		$node->command_ok([ @restore, '--section=post-data', "$folder/dump" ], 'their indexes');
		is(value($node, "SELECT ok, head FROM tandem.audit_verify(NULL, $seq)"), "t|$head", 'the old seals hold, the head is the same');
		# pg_restore --jobs sets the sequence when it likes, also after the indexes
		my $last = value($node, "SELECT last_value, setval('tandem.event_seq', 1, false) FROM tandem.event_seq") =~ s/\|.*//r;
		is(sqlstate($node, "SELECT tandem.append_event('too soon')"), '55000', 'no number is taken before the sequence has been set');
		value($node, "SELECT setval('tandem.event_seq', $last)");
		value($node, 'SELECT some_event(i) FROM generate_series(1, 100) AS i');
		becomes($node, $sealed, 'sealing goes on');
		genuine('behind the old seals');
		is(value($node, 'SELECT count(DISTINCT seq) = count(*) FROM tandem.event'), 't', 'no number twice');
		is(value($node, 'SELECT bool_and(good) FROM seals_by_oracle'), 't', 'as the oracle has it');
		is(sqlstate($node, 'DELETE FROM tandem.event'), '42501', 'and nobody deletes events here either');
		is(sqlstate($node, "DO \$\$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'tandem.event'::regclass LOOP BEGIN EXECUTE 'TRUNCATE ' || p; RAISE 'truncated'; EXCEPTION WHEN insufficient_privilege THEN NULL; END; END LOOP; END \$\$"), '', '... nor empties a partition');
	}
};

subtest 'the turn of a month, a clock set back, retention' => sub {
	value($node, 'CREATE DATABASE months');
	local $RunHelpers::database = 'months';
	value($node, 'CREATE EXTENSION pg_tandem');
	my $event = sub { my ($at) = @_; return value($node, "SELECT tandem.append_event('x', at => '$at')") };
	bench('many write as the month turns', { 'turn' => "\\set s random(1, 10)\nSELECT tandem.append_event('turn', at => '2021-02-28 23:59:55+00'::timestamptz + :s * interval '1 second');\n" }, '-c', 10, '-j', 2, '-t', 20);
	is(value($node, "SELECT count(*) FROM tandem.event WHERE kind = 'turn'"), 200, 'no event is lost');
	$event->('2021-01-31 12:00+00');    # set back by a month
	$event->("2021-0$_-15 12:00+00") foreach 1 .. 5;
	value($node, "SELECT tandem.append_event('today') FROM generate_series(1, 5)");
	is(value($node, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'tandem.event'::regclass") >= 6, 1, 'months are made as they are needed');
	is(sqlstate($node, "SET tandem.event_retention = '1 month'; SELECT tandem.audit_retention(0)"), '', 'nothing is sealed that far: nothing is dropped');
	is(value($node, "SELECT count(*) FROM tandem.event WHERE at < now() - interval '1 year'"), 206, '...');
	becomes($node, $sealed, 'all is sealed');
	my $before = value($node, 'SELECT head FROM tandem.audit_status()');
	is(value($node, "SET tandem.event_retention = '1 month'; SELECT tandem.audit_retention()"), 5, 'retention drops five months');
	is(value($node, "SELECT count(*) FROM tandem.event WHERE at < now() - interval '1 year'"), 0, 'they are gone');
	is(value($node, "SELECT count(*) FROM tandem.event WHERE kind = 'retention' AND reason = 'older than 1 month'"), 5, 'an event tells of each');
	becomes($node, $sealed, '... and is sealed');
	is(value($node, 'SELECT ok, reason FROM tandem.audit_verify()'), 't|', 'what is left is genuine');
	value($node, "SELECT tandem.append_event('more', at => now() + interval '1 day' * i) FROM generate_series(0, 60, 20) AS i");
	becomes($node, $sealed, 'sealing goes on');
	is(value($node, 'SELECT ok, reason FROM tandem.audit_verify()'), 't|', 'and the chain holds');

	my $first = value($node, 'SELECT min(seq) FROM tandem.event');
	is(value($node, 'BEGIN; ' . behind_the_triggers("DELETE FROM tandem.event WHERE seq = $first") . ' SELECT ok, first_bad FROM tandem.audit_verify()'), "f|$first", 'a row that nobody dropped is missed');
	is(value($node, 'BEGIN; ' . behind_the_triggers("INSERT INTO tandem.event SELECT (jsonb_populate_record(e, '{\"seq\": 7}')).* FROM tandem.event AS e WHERE seq = $first") . ' SELECT ok, first_bad FROM tandem.audit_verify()'), 'f|7', 'a row among those that were dropped is found');
	like(value($node, 'BEGIN; ' . behind_the_triggers('DELETE FROM tandem.audit_dropped') . ' SELECT ok, first_bad FROM tandem.audit_verify()'), qr/^f\|\d+$/, 'so is a drop that is hidden');
	my $told = value($node, "SELECT seq FROM tandem.event WHERE kind = 'retention' ORDER BY seq LIMIT 1");
	is(value($node, 'BEGIN; ' . behind_the_triggers("DELETE FROM tandem.event WHERE seq = $told") . ' SELECT ok, first_bad <= ' . $told . ' FROM tandem.audit_verify()'), 'f|t', '... or an event of retention that is taken away');
	like(value($node, 'BEGIN; ' . behind_the_triggers("INSERT INTO tandem.audit_dropped SELECT $first, 'x', int8multirange(int8range($first, $first, '[]')), until_seq, head FROM tandem.audit_dropped LIMIT 1; DELETE FROM tandem.event WHERE seq = $first") . ' SELECT ok, first_bad FROM tandem.audit_verify()'), qr/^f\|\d+$/, '... or a drop that is made up');
	tamper($ENV{TANDEM_QUICK} ? 10 : 25);
};

subtest 'a gap in the numbers that is wider than a seal' => sub {
	value($node, "SELECT setval('tandem.event_seq', 10000000000)");
	value($node, 'SELECT some_event(1)');
	becomes($node, $sealed, 'sealing gets over it');
	genuine('the seals on both sides');
};

done_testing();
