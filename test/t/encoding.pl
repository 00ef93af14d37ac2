# Databases in other encodings than UTF-8: the extension installs there, as its script is ASCII; the dashboard draws with what ASCII has, and the report
# shows what its reader's browser can show. Names and values are of each encoding's own letters.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('encodings', preload => 1, conf => "tandem.naptime = '200ms'\ntimezone = 'UTC'\n");
$node->start;

# What is written there, as its bytes, and how a page shows it.
my %letters = (
	UTF8 => [ "\xC3\xA9\xE4\xB8\xAD", '&#233;&#20013;' ],
	LATIN1 => [ "\xE9", '&#233;' ],
	WIN1251 => [ "\xE6", '&#1078;' ],
	EUC_JP => [ "\xC6\xFC", '&#26085;' ],
	SQL_ASCII => [ "\xE9", '&#65533;' ]);    # it knows no letters beyond ASCII: a byte that is no UTF-8

foreach my $encoding (sort keys %letters)
{
	my ($bytes, $entity) = @{ $letters{$encoding} };
	subtest $encoding => sub {
		my $database = lc "in_$encoding";
		value($node, "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
		local $RunHelpers::database = $database;
		local $ENV{PGCLIENTENCODING} = $encoding;
		is(sqlstate($node, 'SET client_min_messages = warning; CREATE EXTENSION pg_tandem'), '', 'CREATE EXTENSION');
		value($node, <<~SQL);
			CREATE SCHEMA old; CREATE SCHEMA shiny;
			CREATE TABLE old."t$bytes" (id integer PRIMARY KEY, v text); CREATE TABLE shiny."t$bytes" (id integer PRIMARY KEY, v text);
			INSERT INTO old."t$bytes" SELECT i, '$bytes' || i FROM generate_series(1, 20) AS i;
			SELECT FROM tandem.create_run('run $bytes', 'old', 'shiny', hold => '0', steps => '{100}');
			SELECT FROM tandem.map_table('run $bytes', 'old."t$bytes"', 'shiny."t$bytes"');
			SELECT FROM tandem.start('run $bytes');
			SQL
		becomes($node, "weight = 100 FROM tandem.runs", 'a run walks to its last step');
		value($node, qq{SELECT FROM tandem.rollback('run $bytes', 'it looked $bytes')});
		becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", '... and back, with its proof');
		is(value($node, qq{SELECT count(*) FROM tandem.diff('old."t$bytes"', 'shiny."t$bytes"')}), 0, 'both sides are equal');

		my @lines = split /\n/, value($node, "SELECT tandem.dashboard('run $bytes')");
		is(value($node, qq{SELECT count(*) FROM tandem.dashboard('run $bytes') AS l WHERE length(l) <> 93}), 0, 'each line of the dashboard has its width')
		  unless $encoding =~ /UTF8|EUC_JP/;    # letters of two columns there
		cmp_ok(scalar @lines, '>', 10, 'it has lines');
		like($lines[0], qr/run run \Q$bytes\E: schema old/, 'the name is its name');
		if ($encoding eq 'UTF8')
		{
			like($lines[0], qr/^\xE2\x95\xAD\xE2\x94\x80 run/, 'drawn with lines');
		}
		else
		{
			is(value($node, q{SELECT count(*) FROM tandem.dashboard() AS l WHERE l ~ '[^ -~]' AND l !~ 'run '}), 0, 'drawn with ASCII');
			like($lines[0], qr/^\+- run/, '... its frame') or diag($lines[0]);
		}
		my $page = value($node, "SELECT tandem.report('run $bytes')");
		like($page, qr/it looked \Q$entity\E/, 'the page shows the letters');
		unlike($page, qr/[^\x00-\x7F]/, '... and is ASCII');
		like(value($node, "SELECT summary FROM tandem.daily_report('run $bytes', (SELECT (at AT TIME ZONE 'UTC')::date FROM tandem.rollback_proofs))"), qr/rolled back: it looked \Q$bytes\E/, 'the report of the day');
		is(sqlstate($node, 'SELECT * FROM tandem.health; SELECT * FROM tandem.nagios(); SELECT * FROM tandem.runs; SELECT * FROM tandem.alerts'), '', 'health can be read');
		is(value($node, "SELECT ok FROM tandem.audit_verify()"), 't', 'and the record is whole');
	};
}

$node->stop;
done_testing();
