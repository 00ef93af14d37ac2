# Templates phased and playbook, walked from create_run() to complete() with their times compressed, by the people that they are for: a team that runs them, an
# approver who signs, someone on call who ticks. Nobody but these and the worker moves anything; each step is held for its time, and no gate is passed unsigned.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('template', preload => 1, conf => "tandem.naptime = '100ms'\n");
$node->start;
value($node, <<~'SQL');
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE ROLE team LOGIN; CREATE ROLE lead LOGIN; CREATE ROLE pager LOGIN;
	SELECT tandem.grant_role('team', 'operator'), tandem.grant_role('lead', 'approver'), tandem.grant_role('pager', 'oncall');
	CREATE SCHEMA legacy AUTHORIZATION team;
	CREATE SCHEMA crm AUTHORIZATION team;
	SET ROLE team;
	CREATE TABLE legacy.client (id integer PRIMARY KEY, name text NOT NULL);
	CREATE TABLE crm.client (id bigint PRIMARY KEY, name text NOT NULL);
	INSERT INTO legacy.client SELECT i, 'client ' || i FROM generate_series(1, 500) AS i;
	SQL

# What somebody's session answers.
sub by
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

sub refused
{
	my ($role, $sql, $sqlstate, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (undef, undef, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  $sqlstate: /, $what);
	return;
}

# Waits at a gate, where the team cannot go on, and the lead can.
sub sign
{
	my ($run, $gate, $state) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "phase = 'waiting_approval' FROM tandem.runs WHERE run = '$run'", "it comes to gate $gate");
	is(state_of($node, $run), $state, '... where it waits');
	like(value($node, "SELECT waiting_for FROM tandem.runs WHERE run = '$run'"), qr/^sign_off\(\): Gate "$gate" has 0 of 1 approval/, 'and says for what');
	refused('team', "SELECT tandem.promote('$run')", '55000', 'the team cannot go past it') if $state =~ /shadow|live/ && $state !~ /100$/;
	refused('team', "SELECT tandem.sign_off('$run', '$gate', 'go', 'we are sure')", '42501', 'nor sign it');
	is(state_of($node, $run), $state, 'nothing has moved');
	by('lead', "SELECT tandem.sign_off('$run', '$gate', 'go', 'seen and understood', '[\"go\", \"wait for a week\"]')");
	is(value($node, "SELECT concat_ws(' ', decision, role, options, void IS NULL, evidence ->> 'differences') FROM tandem.decisions WHERE run = '$run' AND gate = '$gate'"),
		'go lead ["go", "wait for a week"] t 0', 'the lead signs, on evidence without a difference');
	return;
}

# Everything that the template wants done, in order.
sub tick
{
	my ($run, @items) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(by('pager', "SELECT status FROM tandem.tick_item('$run', '$_', 'done')"), 'done', "ticked: $_") foreach @items;
	return;
}

# Steps as they were made, with what each was held for, in time of the plan: [to, at least so many seconds].
sub held
{
	my ($run, $scale, @steps) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @made = split /\n/, value($node, <<~"SQL");
		SELECT concat_ws(' ', m.to, extract(epoch FROM m.at - m.before) * $scale)
		  FROM (SELECT e.seq, e.at, coalesce(nullif(e.weight, 0)::text, e.stage) AS to, lag(e.at) OVER (ORDER BY e.seq) AS before, e.kind
		          FROM tandem.events('$run') AS e WHERE e.kind IN ('start', 'synced', 'promote', 'rampdown', 'complete')) AS m WHERE m.kind IN ('promote', 'complete') AND m.before IS NOT NULL ORDER BY m.seq
		SQL
	is(join(' ', map { (split / /)[0] } @made), join(' ', map { $_->[0] } @steps), 'every step of the plan was made, and no other');
	foreach my $step (@steps)
	{
		my (undef, $held) = split / /, shift @made // last;
		# An event is a moment younger than the move that it tells of, and that moment may be long where the machine is busy.
		cmp_ok($held, '>=', $step->[1] / 4, sprintf 'before %s it was held for %.0f seconds of the plan, which says %d', $step->[0], $held, $step->[1]);
	}
	return;
}

# Metrics go by the clock, not by the plan.
sub measured
{
	my ($run) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "status <> 'unknown' FROM tandem.success_metrics WHERE run = '$run' AND name = 'no differences'", 'what it is to reach was measured');
	return;
}

sub ended
{
	my ($run, $report) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(state_of($node, $run), 'complete succeeded 100', 'complete');
	is(side_of($node, $run, '1'), 'new', 'new serves every key');
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'no mirror is left');
	is(value($node, "SELECT count(*) FROM tandem.rollback_proofs WHERE run = '$run'"), 0, 'it was never rolled back');
	is(value($node, "SELECT string_agg(DISTINCT status, ' ') FROM tandem.checklist WHERE run = '$run'"), 'done', 'all items of the checklist are done');
	is(value($node, "SELECT status FROM tandem.success_metrics WHERE run = '$run' AND name = 'no differences'"), 'met', 'what it was to reach is computed: no differences');
	my $page = by('team', "SELECT tandem.report('$run')");
	like($page, qr/<section id="$_"/, "the report has section $_")
	  foreach qw(course latency comparisons differences checks metrics guards sla batches health alerts rollbacks playbook days backfill events);
	like($page, $_, "... with $_") foreach @$report;
	like(by('team', "SELECT tandem.retrospective('$run')"), qr/Complete after .*: never rolled back/, 'and the retrospective tells it');
	return;
}

subtest 'phased: 5, 25, 50, 75 and 100 %, with a gate of the team before the half' => sub {
	my $scale = 300;    # 45 minutes in 9 seconds
	is(by('team', "SELECT steps FROM tandem.create_run('phased', 'legacy', 'crm', template => 'phased')"), '{5,25,50,75,100}', 'made from the template');
	by('team', "SELECT tandem.map_table('phased', 'legacy.client', 'crm.client')");
	by('team', "SELECT tandem.set_option('phased', 'time_scale', '$scale'), tandem.add_gate('phased', 'half', 'live', 50)");
	tick('phased', 'Preflight is clean', 'On-call is named and has read the way back');
	is(by('team', "SELECT string_agg(check_name, ', ') FROM tandem.preflight('phased') WHERE status = 'CRITICAL'"), '', 'preflight is clean');
	is(by('team', "SELECT stage FROM tandem.start('phased')"), 'dualwrite', 'start');
	tick('phased', 'Start');
	becomes($node, "stage IN ('shadow', 'live') FROM tandem.runs WHERE run = 'phased'", 'both sides are in step');
	tick('phased', 'Both sides in step');
	by('team', "INSERT INTO legacy.client VALUES (1001, 'of the old application'); INSERT INTO crm.client VALUES (1002, 'of the new one')");
	sign('phased', 'half', 'live waiting_approval 25');
	becomes($node, "weight = 100 FROM tandem.runs WHERE run = 'phased'", 'the worker takes it to 100 %');
	measured('phased');
	tick('phased', 'At 100 %', 'Retrospective is written');
	is(by('team', "SELECT stage FROM tandem.complete('phased', 'phased')"), 'complete', 'no way back was asked for: complete() ends it');
	held('phased', $scale, [ 5 => 300 ], [ 25 => 300 ], [ 50 => 600 ], [ 75 => 900 ], [ 100 => 600 ], [ 100 => 0 ]);
	ended('phased', [ qr/Checklist: 6 of 6 done/, qr/Decisions: 1 of 1/, qr/Success metrics: \d of 4 met/, qr/seen and understood/ ]);
	is(value($node, "SELECT count(*) FROM legacy.client AS l FULL JOIN crm.client AS c USING (id) WHERE l.name IS DISTINCT FROM c.name OR l IS NULL OR c IS NULL"), 0, 'both sides hold the same')
	  and is(value($node, 'SELECT count(*) FROM crm.client'), 502, '... with what was written meanwhile');
};

subtest 'playbook: a month in shadow, one with a tenth of the keys, one with all of them, and a decision before each' => sub {
	my $scale = 1_296_000;    # 90 days in 6 seconds
	value($node, 'DELETE FROM crm.client');
	is(by('team', "SELECT steps FROM tandem.create_run('book', 'legacy', 'crm', template => 'playbook')"), '{10,100}', 'made from the template');
	by('team', "SELECT tandem.map_table('book', 'legacy.client', 'crm.client')");
	by('team', "SELECT tandem.set_option('book', 'time_scale', '$scale')");
	tick('book', 'Preflight is clean', 'Backup is restored elsewhere and compared', 'Way back is rehearsed', 'On-call is named and has read the way back', 'Users are told');
	is(by('team', "SELECT stage FROM tandem.start('book')"), 'dualwrite', 'start');
	tick('book', 'Start');
	sign('book', 'pilot', 'shadow waiting_approval 0');
	tick('book', 'Shadow month is over', 'Go or no go: pilot');
	becomes($node, "weight = 10 FROM tandem.runs WHERE run = 'book'", 'the pilot');
	sign('book', 'full', 'live waiting_approval 10');
	tick('book', 'Pilot month is over', 'Go or no go: all keys');
	becomes($node, "weight = 100 FROM tandem.runs WHERE run = 'book'", 'all keys');
	measured('book');
	refused('team', "SELECT tandem.complete('book', 'no')", '22023', 'the end wants its name');
	is(by('team', "SELECT stage FROM tandem.complete('book', 'book')"), 'rampdown', 'the way back stays open for a month');
	sign('book', 'closing', 'rampdown waiting_approval 100');
	tick('book', 'Full month is over', 'Go or no go: closing', 'Legacy is archived', 'Retrospective is written');
	becomes($node, "phase = 'progressing' FROM tandem.runs WHERE run = 'book'", 'approved');
	by('team', "SELECT tandem.add_lesson('book', 'Nobody missed the old application', 'keep')");
	is(by('team', "SELECT stage FROM tandem.complete('book', 'book')"), 'complete', 'the end');
	held('book', $scale, [ 10 => 2_592_000 ], [ 100 => 2_592_000 ], [ 100 => 2_592_000 ]);
	is(value($node, "SELECT string_agg(evidence ->> 'successes', ' ' ORDER BY seq) ~ '^([3-9]|\\d\\d+)( ([3-9]|\\d\\d+))*\$' FROM tandem.events('book') WHERE kind = 'promote'"), 't', 'each step after three clean validations in a row, or more');
	ended('book', [ qr/Checklist: 14 of 14 done/, qr/Decisions: 3 of 3/, qr/Nobody missed the old application/, qr/Success metrics: \d of 4 met/ ]);
};

$node->stop;
done_testing();
