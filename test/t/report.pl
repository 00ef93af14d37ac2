# report() in a real browser: a day's run and a hostile one, light, dark, on a phone and on paper. What the browser made of the page is asked for
# from inside it, by a script that is put into a copy; the page itself has none.
#
# Needs Debian's chromium (with-deps.sh installs it for this test, TANDEM_BROWSER=no leaves it out); without it the test is skipped, and says so.
# TANDEM_PICTURES=DIR keeps the pictures there; test/tools/picture.sh makes docs/report.png by it.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Compress::Zlib qw(uncompress);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use IPC::Run ();
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($browser) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
plan skip_all => 'SKIPPED: there is no chromium here' if !defined $browser || ($ENV{TANDEM_BROWSER} // '') eq 'no';

my $root = dirname(__FILE__) . '/../..';
my $folder = PostgreSQL::Test::Utils::tempdir('pages');
my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '200ms'\ntimezone = 'UTC'\n");
$node->start;

# --- the browser
sub browse    # (URL, option...): its output
{
	my ($url, @options) = @_;
	my ($out, $err) = ('', '');
	local $ENV{HOME} = $folder;
	# --no-sandbox: the server's user may not make namespaces, and the page is ours. Nothing of the browser's own goes out.
	IPC::Run::run(
		[
			$browser, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--no-first-run',
			'--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions', '--disable-breakpad',
			'--disable-features=OptimizationHints,MediaRouter,Translate', '--allow-file-access-from-files', '--virtual-time-budget=2000',
			"--user-data-dir=$folder/profile", @options, $url
		],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(200)) or diag("chromium: $err");
	return $out;
}

sub save
{
	my ($name, $text) = @_;
	open my $file, '>:raw', "$folder/$name" or die "$name: $!";
	print $file $text;
	close $file;
	return "file://$folder/$name";
}

# Width, height and a function (x, y) → [r, g, b] of a PNG as chromium writes it.
sub picture
{
	my ($name) = @_;
	open my $file, '<:raw', "$folder/$name" or return (0, 0, sub { [ 0, 0, 0 ] });
	my $png = do { local $/; <$file> };
	close $file;
	my ($at, $data, $width, $height, $type) = (8, '');
	while ($at < length $png)
	{
		my ($size, $kind) = unpack 'N a4', substr $png, $at, 8;
		($width, $height, $type) = (unpack 'N N C C', substr $png, $at + 8, 10)[ 0, 1, 3 ] if $kind eq 'IHDR';
		$data .= substr $png, $at + 8, $size if $kind eq 'IDAT';
		$at += $size + 12;
	}
	my $bytes = $type == 6 ? 4 : 3;
	my @raw = unpack "(a" . ($width * $bytes + 1) . ")*", uncompress($data);
	my ($last, @rows) = ([ (0) x ($width * $bytes) ]);
	foreach my $line (@raw)
	{
		my ($filter, @b) = unpack 'C*', $line;
		for my $i (0 .. $#b)
		{
			my ($a, $u, $c) = ($i >= $bytes ? $b[ $i - $bytes ] : 0, $last->[$i], $i >= $bytes ? $last->[ $i - $bytes ] : 0);
			if ($filter == 1) { $b[$i] += $a }
			elsif ($filter == 2) { $b[$i] += $u }
			elsif ($filter == 3) { $b[$i] += int(($a + $u) / 2) }
			elsif ($filter == 4)
			{
				my ($pa, $pb, $pc) = (abs($u - $c), abs($a - $c), abs($a + $u - 2 * $c));
				$b[$i] += $pa <= $pb && $pa <= $pc ? $a : $pb <= $pc ? $u : $c;
			}
			$b[$i] &= 255;
		}
		push @rows, $last = \@b;
	}
	return ($width, $height, sub { my ($x, $y) = @_; [ @{ $rows[$y] }[ $x * $bytes .. $x * $bytes + 2 ] ] });
}

# --- what a reader meets: asked for in the browser, in a copy of the page that allows it
my $probe = <<'JS';
<script>
addEventListener('load', () => {
  const lum = c => { const v = c.map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const rgb = s => { const m = s.match(/[\d.]+/g); return m && !(m.length > 3 && +m[3] === 0) ? m.slice(0, 3).map(Number) : null; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
  const shown = e => e.getClientRects().length > 0;
  const page = document.documentElement, result = { width: page.clientWidth, wide: page.scrollWidth, low: [], small: [], faint: [], outside: [] };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = 99, words = 0;
  for (let n; (n = walker.nextNode());) {
    const e = n.parentElement;
    if (!n.data.trim() || !shown(e) || ['STYLE', 'SCRIPT', 'title', 'desc'].includes(e.tagName)) continue;
    const s = getComputedStyle(e), svg = e instanceof SVGElement;
    const r = ratio(rgb(svg ? s.fill : s.color), svg && e.classList.contains('in') ? rgb(getComputedStyle(e.parentElement.querySelector('rect')).fill) : behind(svg ? e.ownerSVGElement.parentElement : e));
    words++; least = Math.min(least, r);
    if (r < 4.5) result.low.push(n.data.slice(0, 40) + ' ' + r.toFixed(2));
    if (parseFloat(s.fontSize) < 11) result.small.push(n.data.slice(0, 40) + ' ' + s.fontSize);
    if (svg) { const b = e.getBoundingClientRect(), o = e.ownerSVGElement.getBoundingClientRect(); if (b.left < o.left - 1 || b.right > o.right + 1) result.outside.push(n.data); }
  }
  for (const m of document.querySelectorAll('figure > svg path, figure > svg rect, svg.meter rect')) {
    if (!shown(m) || /^(a-|s-|track)/.test(m.getAttribute('class'))) continue;
    const s = getComputedStyle(m), c = rgb(s.stroke !== 'none' ? s.stroke : s.fill);
    if (c && ratio(c, behind(m.closest('figure, section'))) < 3) result.faint.push(m.getAttribute('class'));
  }
  result.least = least; result.words = words;
  result.scripts = document.scripts.length;
  result.images = document.images.length + document.querySelectorAll('iframe, object, embed, link:not([href="data:,"])').length;
  result.title = document.title;
  result.text = document.body.innerText.length;
  const out = document.createElement('pre'); out.id = 'probe'; out.textContent = JSON.stringify(result); document.body.append(out);
  if (parent !== window) parent.document.body.append(out.cloneNode(true));
});
</script>
JS

sub probe    # (page name, option...): what the script found
{
	my ($name, @options) = @_;
	my $dom = browse("file://$folder/$name", '--dump-dom', @options);
	my ($json) = $dom =~ m{<pre id="probe">(.*?)</pre>}s;
	return {} unless defined $json;
	my %entity = (amp => '&', lt => '<', gt => '>', quot => '"', nbsp => ' ');
	$json =~ s/&(\w+);/$entity{$1}/g;
	return decode_json($json);
}

sub probed    # the copy of a page that lets itself be asked
{
	my ($html) = @_;
	$html =~ s{<meta http-equiv="Content-Security-Policy"[^>]*>}{} or die 'there is no policy';
	$html =~ s{</body>}{$probe</body>};
	return $html;
}

sub framed    # in a window as narrow as a phone's: chromium's own are 500 pixels at least
{
	my ($page, $height) = @_;
	return qq{<!DOCTYPE html><html><body style="margin:0"><iframe src="$page" style="border:0;width:360px;height:${height}px"></iframe></body></html>};
}

sub sound    # a test: the page can be read as it is
{
	my ($found, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return subtest $what => sub {
		cmp_ok($found->{words} // 0, '>', 100, 'it has words');
		cmp_ok($found->{least} // 0, '>=', 4.5, sprintf 'the least contrast of words is %.2f', $found->{least} // 0) or diag(explain($found->{low}));
		is_deeply($found->{faint}, [], 'marks have a contrast of 3');
		is_deeply($found->{small}, [], 'no letter is too small');
		is_deeply($found->{outside}, [], 'no label leaves its chart');
		cmp_ok($found->{wide} // 9999, '<=', $found->{width} // 0, 'the page need not be moved sideways');
		is($found->{images}, 0, 'nothing is loaded');
		is($found->{scripts}, 1, 'no script but the one that asks');
	};
}

# --- a day
value($node, 'SET client_min_messages = warning; CREATE EXTENSION pg_tandem');
$node->psql('postgres', "SELECT 1;\n\\i $root/test/bench/report.sql", on_error_stop => 1, on_error_die => 1);
my $begun = time;
my $page = value($node, "SELECT tandem.report('checkout')");
my $seconds = time - $begun;
diag(sprintf 'report of a day: %.0f kB in %.2f s', length($page) / 1000, $seconds);
cmp_ok(length $page, '<=', 1_000_000, 'the report of a day has at most 1 MB');
cmp_ok($seconds, '<=', $ENV{TANDEM_REPORT_SECONDS} // 10, 'and is made in time');
my $url = save('report.html', $page);
save('probed.html', probed($page));
save('phone.html', framed('probed.html', 9000));

# --- the palette, as it is written: what the probe can't see is who looks
subtest 'colours that are told apart, also by who sees no red, no green or no blue' => sub {
	my ($css) = $page =~ m{<style>(.*?)</style>}s;
	# Machado, Oliveira, Fernandes 2009, severity 1; linear RGB
	my %eye = (
		all => [ [ 1, 0, 0 ], [ 0, 1, 0 ], [ 0, 0, 1 ] ],
		protan => [ [ 0.152286, 1.052583, -0.204868 ], [ 0.114503, 0.786281, 0.099216 ], [ -0.003882, -0.048116, 1.051998 ] ],
		deutan => [ [ 0.367322, 0.860646, -0.227968 ], [ 0.280085, 0.672501, 0.047413 ], [ -0.011820, 0.042940, 0.968881 ] ],
		tritan => [ [ 1.255528, -0.076749, -0.178779 ], [ -0.078411, 0.930809, 0.147602 ], [ 0.004733, 0.691367, 0.303900 ] ]);
	my $lab = sub {
		my ($hex, $matrix) = @_;
		my @c = map { my $v = hex($_) / 255; $v <= 0.04045 ? $v / 12.92 : (($v + 0.055) / 1.055)**2.4 } $hex =~ /^#(..)(..)(..)$/;
		my @s = map { my $row = $_; my $v = 0; $v += $row->[$_] * $c[$_] for 0 .. 2; $v < 0 ? 0 : $v > 1 ? 1 : $v } @$matrix;
		my @xyz = ((0.4124 * $s[0] + 0.3576 * $s[1] + 0.1805 * $s[2]) / 0.95047, 0.2126 * $s[0] + 0.7152 * $s[1] + 0.0722 * $s[2], (0.0193 * $s[0] + 0.1192 * $s[1] + 0.9505 * $s[2]) / 1.08883);
		my ($x, $y, $z) = map { $_ > 0.008856 ? $_**(1 / 3) : 7.787 * $_ + 16 / 116 } @xyz;
		return [ 116 * $y - 16, 500 * ($x - $y), 200 * ($y - $z) ];
	};
	my @palettes = $css =~ /:root \{(.*?)\}/gs;
	is(scalar @palettes, 2, 'light and dark');
	foreach my $palette (@palettes)
	{
		my %colour = $palette =~ /--([\w-]+): (#\w{6})/g;
		foreach my $pair ([ 'new', 'legacy' ], [ 'good', 'bad' ], [ 'good', 'warn' ], [ 'bad', 'warn' ], [ 'good', 'none' ])
		{
			foreach my $who (sort keys %eye)
			{
				my ($a, $b) = map { $lab->($colour{$_}, $eye{$who}) } @$pair;
				my $apart = sqrt(($a->[0] - $b->[0])**2 + ($a->[1] - $b->[1])**2 + ($a->[2] - $b->[2])**2);
				cmp_ok($apart, '>=', 15, sprintf '%s and %s for %s: %.0f apart in Lab', @$pair, $who, $apart);
			}
		}
	}
};

subtest 'its text, as the browser shows it' => sub {
	my $dom = browse($url, '--dump-dom');
	(my $text = $dom) =~ s{<style>.*?</style>}{}s;
	$text =~ s{<[^>]*>}{ }g;
	$text =~ s{\s+}{ }g;
	like($text, qr/Yes: the new side is as good as the old one, at 75 %\./, 'the verdict');
	like($text, qr/Nothing to do: it waits for the hold until .*, then weight 100\./, 'what to do');
	like($text, qr/rolled back/, 'the rollback in the chart');
	like($text, qr/guard any_difference: 2 differences/, 'and why');
	like($text, qr/explained/, 'its proof');
	like($text, qr/14,553,030|29,106,060/, 'rows compared');
	like($text, qr/place order .* old .* 3,600/, 'the latency of an operation');
	like($text, qr/payment error rate/, 'a metric');
	like($text, qr/recompute discounts/, 'a batch job');
	like($text, qr/payments fail/, 'an alert');
	unlike($dom, qr/<script/i, 'no script');
	my @figures = $dom =~ /<figure/g;
	my @tables = $dom =~ /<figure.*?<table.*?<\/figure>/gs;
	is(scalar @tables, scalar @figures, 'a table behind each chart');
};
sound(probe('probed.html', '--window-size=1200,900'), 'light');
sound(probe('probed.html', '--window-size=1200,900', '--blink-settings=preferredColorScheme=0'), 'dark');
sound(probe('phone.html', '--window-size=500,900'), 'on a phone');

subtest 'pictures' => sub {
	browse($url, '--window-size=1200,1500', "--screenshot=$folder/light.png");
	browse($url, '--window-size=1200,1500', '--blink-settings=preferredColorScheme=0', "--screenshot=$folder/dark.png");
	browse("file://$folder/phone.html", '--window-size=500,1800', "--screenshot=$folder/phone.png");
	my %colour = (light => { page => [ 255, 255, 255 ], new => [ 10, 95, 180 ], bad => [ 153, 27, 32 ] }, dark => { page => [ 20, 24, 28 ], new => [ 109, 179, 255 ], bad => [ 255, 102, 102 ] });
	foreach my $scheme (qw(light dark))
	{
		my ($width, $height, $at) = picture("$scheme.png");
		is_deeply([ $width, $height ], [ 1200, 1500 ], "$scheme: its size");
		is_deeply($at->(2, 2), $colour{$scheme}{page}, "$scheme: the page");
		my %seen;
		for (my $y = 0; $y < $height; $y++) { for (my $x = 80; $x < 1120; $x += 3) { $seen{ join ',', @{ $at->($x, $y) } }++; } }
		cmp_ok($seen{ join ',', @{ $colour{$scheme}{new} } } // 0, '>', 100, "$scheme: the line of the weight");
		cmp_ok($seen{ join ',', @{ $colour{$scheme}{bad} } } // 0, '>', 100, "$scheme: the differences");
	}
	my ($width) = picture('phone.png');
	is($width, 500, 'phone');
	if (defined $ENV{TANDEM_PICTURES})
	{
		copy("$folder/$_", "$ENV{TANDEM_PICTURES}/$_") or diag("$_: $!") foreach qw(light.png dark.png phone.png report.html);
	}
};

sub pages    # of a page on paper
{
	my ($at) = @_;
	unlink "$folder/report.pdf";
	browse($at, "--print-to-pdf=$folder/report.pdf", '--no-pdf-header-footer', '--blink-settings=preferredColorScheme=0');
	open my $file, '<:raw', "$folder/report.pdf" or return 0;
	my $pdf = do { local $/; <$file> };
	return scalar(() = $pdf =~ m{/Type\s*/Page\b}g);
}

subtest 'on paper' => sub {
	my $pages = pages($url);
	(my $short = $page) =~ s{<details>.*?</details>}{}gs;
	my $without = pages(save('short.html', $short));
	cmp_ok($without, '>=', 2, "pages: $pages, without the numbers behind the charts $without");
	cmp_ok($without, '<=', 12, 'not too many');
	cmp_ok($pages, '>', $without, 'the numbers behind the charts are printed, too');
	cmp_ok($pages, '<=', 24, '... small');
};

subtest 'nothing goes out' => sub {
	my $requests = sub {
		my ($at) = @_;
		unlink "$folder/net.json";
		browse($at, '--dump-dom', "--log-net-log=$folder/net.json");
		open my $file, '<:raw', "$folder/net.json" or return 'no log';
		my $log = do { local $/; <$file> };
		my %seen = map { $_ => 1 } $log =~ m{"url":"(https?://127\.0\.0\.1[^"]*)"}g;
		return join ' ', sort keys %seen;
	};
	is($requests->(save('loud.html', '<!DOCTYPE html><title>x</title><img src="http://127.0.0.1:9/seen.png">')), 'http://127.0.0.1:9/seen.png', 'a picture from elsewhere would be seen');
	(my $loud = $page) =~ s{</main>}{<img src="http://127.0.0.1:9/seen.png"/><script src="http://127.0.0.1:9/seen.js"></script></main>};
	is($requests->(save('forced.html', $loud)), '', 'the policy of the page refuses one');
	(my $pointed = $page) =~ s{<meta http-equiv="Content-Security-Policy"[^>]*>}{<base href="http://127.0.0.1:9/"/>};
	is($requests->(save('base.html', $pointed)), '', 'and it asks for none, also where every relative address would');
};

# --- a run whose every name is a script
value($node, <<'SQL');
CREATE SCHEMA "<script>document.title='owned'</script>"; CREATE SCHEMA "</style><img src=x onerror=document.title='owned'>";
CREATE TABLE "<script>document.title='owned'</script>"."""><script>" (id text PRIMARY KEY, v text);
CREATE TABLE "</style><img src=x onerror=document.title='owned'>"."""><script>" (id text PRIMARY KEY, v text);
INSERT INTO "<script>document.title='owned'</script>"."""><script>" VALUES ('</td><script>document.title=''owned''</script>', '<svg onload=document.title=''owned''>'), (E'\x01\x1b' || chr(8238), 'é中🐘');
SELECT FROM tandem.create_run('<script>document.title=''owned''</script>', '<script>document.title=''owned''</script>', '</style><img src=x onerror=document.title=''owned''>', hold => '0', steps => '{5}');
SELECT FROM tandem.map_table('<script>document.title=''owned''</script>', '"<script>document.title=''owned''</script>"."""><script>"', '"</style><img src=x onerror=document.title=''owned''>"."""><script>"');
SELECT FROM tandem.start('<script>document.title=''owned''</script>');
SQL
becomes($node, "weight = 5 FROM tandem.run WHERE name LIKE '<script%'", 'the hostile run is live');
value($node, <<'SQL');
SELECT FROM tandem.pause('<script>document.title=''owned''</script>', '"><script>document.title=''owned''</script><details open ontoggle=document.title=''owned''>');
ALTER TABLE "</style><img src=x onerror=document.title='owned'>"."""><script>" DISABLE TRIGGER ALL;
UPDATE "</style><img src=x onerror=document.title='owned'>"."""><script>" SET v = '<img src=x onerror=document.title=''owned''>';
ALTER TABLE "</style><img src=x onerror=document.title='owned'>"."""><script>" ENABLE TRIGGER ALL;
SELECT FROM tandem.rollback('<script>document.title=''owned''</script>', '<script>document.title=''owned''</script>');
SQL
becomes($node, "bool_and(verdict <> 'pending') FROM tandem.rollback_proofs", 'it is rolled back and proven');
my $hostile = value($node, "SELECT tandem.report('<script>document.title=''owned''</script>')");
save('hostile.html', probed($hostile));
my $found = probe('hostile.html', '--window-size=1200,900');
sound($found, 'the hostile run');
like($found->{title}, qr/^Run <script>document\.title='owned'<\/script>: No: /, 'its title is its name and verdict: no script ran');
save('phone.html', framed('hostile.html', 9000));
sound(probe('phone.html', '--window-size=500,900'), '... on a phone');

$node->stop;
done_testing();
