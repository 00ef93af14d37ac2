-- expression: what PostgreSQL's parser says of an SQL expression, and under which operator two types are compared.

CREATE FUNCTION tandem.expression_info(
    relation regclass, expression text,
    OUT type oid, OUT typmod integer, OUT collation_id oid, OUT volatility "char", OUT bare_column name, OUT columns name[])
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_expression_info';
COMMENT ON FUNCTION tandem.expression_info IS
    'What an SQL scalar over the rows of a relation is: type, collation, volatility (i, s or v), the columns it reads, and its column where it is a bare one. Errors: whatever the parser says, with the expression in DETAIL';

CREATE FUNCTION tandem.check_condition(relation regclass, condition text) RETURNS void
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_condition_check';
COMMENT ON FUNCTION tandem.check_condition IS
    'Refuses what is not one SQL condition over the rows of a relation, and what is volatile; a subquery may stand in it';

CREATE FUNCTION tandem.equality(legacy_type oid, new_type oid, OUT operator text, OUT legacy_operand oid, OUT new_operand oid)
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_equality';
COMMENT ON FUNCTION tandem.equality IS
    'The operator under which values of two types are compared, schema-qualified, and the types to cast them to before: text where a type has no equality, jsonb for json. NULL where the pair has none in common that means the same in every session';
