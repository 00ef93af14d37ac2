-- Bad input to diff() and compare(): each a clear error with SQLSTATE, DETAIL and HINT, the same whatever the method and the path. What a rule,
-- an expression or a condition may be is in compare.sql; expressions that fail on rows are in compare_errors.sql.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

-- What a DBA sees, asked of diff() and compare() by every method and path; who says what, where they don't agree.
CREATE FUNCTION ask(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    way record;
    m text; d text; h text;
    answer text;
    answers jsonb := '{}';
BEGIN
    FOR way IN SELECT * FROM unnest(ARRAY['diff', 'compare']) AS v (verb), unnest(ARRAY['join', 'auto', 'sketch', 'radix']) AS m (method), unnest(ARRAY['auto', 'raw', 'slots', 'executor']) AS p (path)
                WHERE (m.method IN ('join', 'auto')) = (p.path = 'auto') LOOP
        PERFORM set_config('tandem.compare_method', way.method, true), set_config('tandem.compare_path', way.path, true);
        BEGIN
            EXECUTE format('SELECT count(*) FROM tandem.%s(%s)', way.verb, arguments);
            answer := 'no error';
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
            answer := concat_ws(E'\n', SQLSTATE || ': ' || m, 'DETAIL: ' || nullif(d, ''), 'HINT: ' || nullif(h, ''));
        END;
        answers := answers || jsonb_build_object(concat_ws(' ', way.verb, way.method, way.path), answer);
    END LOOP;
    RETURN CASE WHEN (SELECT count(DISTINCT a.value) FROM jsonb_each_text(answers) AS a) = 1 THEN answer ELSE jsonb_pretty(answers) END;
END
$$;
\pset format unaligned
\pset tuples_only on

CREATE TABLE legacy.account (id integer PRIMARY KEY, owner text, amount numeric, opened timestamp, code text);
CREATE TABLE bank.account (id bigint PRIMARY KEY, owner text, amount numeric, opened timestamptz, rating integer);
INSERT INTO legacy.account SELECT g, 'owner ' || g, g, '2024-01-01', g FROM generate_series(1, 300) AS g;
INSERT INTO bank.account SELECT g, 'owner ' || g, g, '2024-01-01', g FROM generate_series(1, 300) AS g;
\set ignored 'rules => \'{"opened": {"ignore": true}}\''

-- no error, so that the errors below are theirs
SELECT ask($$'legacy.account', 'bank.account', $$ || :'ignored');

-- key columns missing: in new, in legacy, ignored
SELECT ask($$'legacy.account', 'bank.account', key => '{number}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{rating}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{code}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{opened}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{id,owner,id}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{}', $$ || :'ignored');
-- no common = : of a column, of the key
SELECT ask($$'legacy.account', 'bank.account'$$);
SELECT ask($$'legacy.account', 'bank.account', key => '{rating}', columns => '{"rating": "code"}', $$ || :'ignored');
-- NULL in a key: on legacy's side, on new's, by a rule, by an expression, in the second column, in a row among many
SELECT ask($$'legacy.account', 'bank.account', key => '{id}', columns => '{"id": "nullif(id, 299)"}', $$ || :'ignored');
INSERT INTO legacy.account VALUES (301, NULL, 1, NULL, NULL);
INSERT INTO bank.account VALUES (301, '', 1, NULL, NULL);
SELECT ask($$'legacy.account', 'bank.account', key => '{amount,owner}', $$ || :'ignored');
SELECT ask($$'bank.account', 'legacy.account', key => '{amount,owner}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', key => '{owner}', rules => '{"owner": {"empty_is_null": true}, "opened": {"ignore": true}}', legacy_where => 'id < 301'$$);
SELECT ask($$'legacy.account', 'bank.account', key => '{id,owner}', legacy_where => 'owner IS NOT NULL', new_where => 'owner <> ''''', $$ || :'ignored');
DELETE FROM legacy.account WHERE id = 301;
DELETE FROM bank.account WHERE id = 301;
-- no common column
CREATE TABLE bank.apart (number integer);
SELECT ask($$'legacy.account', 'bank.apart'$$);
SELECT ask($$'legacy.account', 'bank.account', rules => '{"id": {"ignore": true}, "owner": {"ignore": true}, "amount": {"ignore": true}, "opened": {"ignore": true}}'$$);
-- a rule or a mapping for an unknown column, a rule that does not fit
SELECT ask($$'legacy.account', 'bank.account', rules => '{"ownr": {"trim": true}}'$$);
SELECT ask($$'legacy.account', 'bank.account', columns => '{"ownr": "owner"}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', rules => '{"owner": {"tolerance": 1}, "opened": {"ignore": true}}'$$);
SELECT ask($$'legacy.account', 'bank.account', rules => '{"id": {"tolerance": 1}, "opened": {"ignore": true}}'$$);
-- a mapping expression that is none, or that is not of the row
SELECT ask($$'legacy.account', 'bank.account', columns => '{"owner": "ownr"}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', columns => '{"owner": "lower(owner"}', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', columns => '{"amount": "random()"}', $$ || :'ignored');
-- a condition that fails on a row is an error: whether the row counts is not known
SELECT ask($$'legacy.account', 'bank.account', legacy_where => '1 / (id - 5) >= 0', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', new_where => '1 / (id - 5) >= 0', $$ || :'ignored');
-- what jsonb cannot hold, and so is not compared
CREATE TABLE legacy.document (id integer PRIMARY KEY, doc json);
CREATE TABLE bank.document (id integer PRIMARY KEY, doc json);
INSERT INTO legacy.document VALUES (1, '{"a": 1}');
INSERT INTO bank.document VALUES (1, '{"a": "\u0000"}');
SELECT ask($$'legacy.document', 'bank.document'$$);
-- relations
SELECT ask($$'legacy.nothing', 'bank.account'$$);
SELECT ask($$NULL, 'bank.account'$$);
SELECT ask($$'legacy.account_pkey', 'bank.account'$$);
SELECT ask($$'legacy.account', 'bank.account', max_differences => -1, $$ || :'ignored');

-- no permission: to a table, to a column, to a schema of a function, to what a view reads as its owner
CREATE ROLE regress_tandem_auditor;
GRANT USAGE ON SCHEMA legacy, bank TO regress_tandem_auditor;
GRANT SELECT ON legacy.account TO regress_tandem_auditor;
CREATE VIEW bank.seen AS SELECT id, owner, amount FROM bank.account;
CREATE FUNCTION bank.secret(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1';
REVOKE EXECUTE ON FUNCTION bank.secret FROM PUBLIC;
SET ROLE regress_tandem_auditor;
SELECT ask($$'legacy.account', 'bank.account', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.seen', key => '{id}'$$);
RESET ROLE;
GRANT SELECT ON bank.seen TO regress_tandem_auditor;
GRANT SELECT (id, owner, opened) ON bank.account TO regress_tandem_auditor;
SET ROLE regress_tandem_auditor;
SELECT ask($$'legacy.account', 'bank.seen', key => '{id}'$$);
SELECT ask($$'legacy.account', 'bank.account', $$ || :'ignored');
SELECT ask($$'legacy.account', 'bank.account', rules => '{"amount": {"ignore": true}, "opened": {"ignore": true}}'$$);
SELECT ask($$'legacy.account', 'bank.account', rules => '{"amount": {"ignore": true}, "opened": {"ignore": true}}', new_where => 'rating > 3'$$);
SELECT ask($$'legacy.account', 'bank.seen', key => '{id}', columns => '{"amount": "bank.secret(amount)"}'$$);
RESET ROLE;
REVOKE SELECT ON bank.account FROM regress_tandem_auditor;
ALTER VIEW bank.seen OWNER TO regress_tandem_auditor;
SELECT ask($$'legacy.account', 'bank.seen', key => '{id}'$$);
ALTER VIEW bank.seen OWNER TO CURRENT_USER;
GRANT SELECT ON bank.seen TO regress_tandem_auditor;
-- row security that would hide rows
ALTER TABLE legacy.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON legacy.account USING (id < 11);
SET ROLE regress_tandem_auditor;
SET row_security = off;
SELECT ask($$'legacy.account', 'bank.seen', key => '{id}'$$);
RESET row_security;
SELECT legacy_rows, new_rows, extra FROM tandem.compare('legacy.account', 'bank.seen', key => '{id}');
RESET ROLE;
ALTER TABLE legacy.account DISABLE ROW LEVEL SECURITY;

-- views that change: between two comparisons of one session, below a prepared statement, to one that fails
PREPARE again AS SELECT equal, missing, extra, changed FROM tandem.compare('legacy.account', 'bank.seen', key => '{id}');
EXECUTE again;
CREATE OR REPLACE VIEW bank.seen AS SELECT id, owner, amount + CASE id WHEN 7 THEN 1 ELSE 0 END AS amount FROM bank.account WHERE id <> 9;
EXECUTE again;
DROP VIEW bank.seen;
CREATE VIEW bank.seen AS SELECT owner, id::numeric, amount::float8, 1 AS more FROM bank.account;
EXECUTE again;
CREATE OR REPLACE VIEW bank.seen AS SELECT owner, id::numeric, amount / (id - 9) * (id - 9) AS amount, 1 AS more FROM (SELECT id, owner, amount::float8 FROM bank.account) AS a;
EXECUTE again;
DROP VIEW bank.seen;
EXECUTE again;
-- by what the comparison itself calls: it may read, and cannot change anything
CREATE FUNCTION legacy.meddle(integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$ BEGIN DROP TABLE IF EXISTS bank.account; RETURN $1; END $$;
CREATE FUNCTION legacy.write(integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$ BEGIN UPDATE bank.account SET amount = 0; RETURN $1; END $$;
SELECT legacy ->> 'error' AS error, count(*) FROM tandem.diff('legacy.account', 'bank.account', columns => '{"amount": "legacy.meddle(id)"}', rules => '{"opened": {"ignore": true}}') GROUP BY 1;
SELECT legacy ->> 'error' AS error, count(*) FROM tandem.diff('legacy.account', 'bank.account', columns => '{"amount": "legacy.write(id)"}', rules => '{"opened": {"ignore": true}}') GROUP BY 1;
-- a comparison within a comparison
CREATE FUNCTION legacy.again(integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN $1 + (SELECT missing FROM tandem.compare('legacy.document', 'bank.document', key => '{id}', rules => '{"doc": {"ignore": true}}')); END $$;
SELECT ask($$'legacy.account', 'bank.account', columns => '{"id": "legacy.again(id)"}', legacy_where => 'id < 20', new_where => 'id < 20', $$ || :'ignored');

-- everything is as it was
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.account', 'bank.account', rules => '{"opened": {"ignore": true}}');
DEALLOCATE again;
DROP SCHEMA legacy, bank CASCADE;
DROP ROLE regress_tandem_auditor;
DROP FUNCTION ask;
