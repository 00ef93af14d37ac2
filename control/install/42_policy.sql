-- policy: the verbs that make and drop named policies. Operators may; a policy belongs to the role that made it.

-- SECURITY DEFINER: it writes the extension's tables.
CREATE FUNCTION tandem.create_policy(policy text, rules jsonb) RETURNS tandem.policies
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result tandem.policies;
BEGIN
    IF octet_length(coalesce(policy, '')) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a policy has 1 to 63 bytes' USING ERRCODE = CASE WHEN policy IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_name' END,
              HINT = 'SELECT tandem.create_policy(''money'', ''{"tolerance": 0.01}'')';
    END IF;
    PERFORM tandem.check_rule_form(format('policy "%s"', policy), rules);
    INSERT INTO tandem.policy (name, rules, owner) VALUES (policy, rules, pg_get_userbyid(tandem.acting_role()));
    PERFORM tandem.append_event('create_policy', NULL, jsonb_build_object('policy', policy, 'rules', rules));
    SELECT v.* INTO result FROM tandem.policies AS v WHERE v.policy = create_policy.policy;
    RETURN result;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'policy "%" exists already', policy USING ERRCODE = 'duplicate_object',
          DETAIL = 'A policy never changes: what a mapping was made with is what it is compared with.',
          HINT = 'Choose another name; SELECT * FROM tandem.policies shows what there is.';
END
$$;
COMMENT ON FUNCTION tandem.create_policy IS 'Makes a named policy: rules of a column, used as {"column": {"policy": "name"}}';

CREATE FUNCTION tandem.uses_policy(rules jsonb, policy text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM jsonb_each(rules) AS r WHERE r.value -> 'policy' = to_jsonb(policy)) $$;
COMMENT ON FUNCTION tandem.uses_policy IS 'Do these rules name the policy?';

-- SECURITY DEFINER, as create_policy().
CREATE FUNCTION tandem.drop_policy(policy text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    acting name := pg_get_userbyid(tandem.acting_role());
    p tandem.policy;
    used text;
BEGIN
    SELECT * INTO p FROM tandem.policy AS x WHERE x.name = policy FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'policy "%" does not exist', policy USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM tandem.policies shows what there is.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = p.owner AND pg_has_role(acting, o.oid, 'MEMBER')) AND NOT tandem.has_level(acting, 'admin') THEN
        RAISE EXCEPTION 'permission denied to drop policy "%"', policy USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('It belongs to role "%s"; role "%s" is no member of it and no admin.', p.owner, acting),
              HINT = format('SET ROLE %I, or ask an admin.', p.owner);
    END IF;
    SELECT string_agg(format('%I.%I in run "%s"', m.new_schema, m.new_table, r.name), ', ' ORDER BY m.id) INTO used
      FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
     WHERE r.stage <> 'complete' AND r.phase <> 'cancelled' AND tandem.uses_policy(m.rules, policy);
    IF used IS NOT NULL THEN
        RAISE EXCEPTION 'policy "%" is in use', policy USING ERRCODE = 'dependent_objects_still_exist',
              DETAIL = format('It is named in the rules of %s.', used), HINT = 'Cancel or complete those runs first.';
    END IF;
    DELETE FROM tandem.policy AS x WHERE x.name = policy;
    PERFORM tandem.append_event('drop_policy', NULL, jsonb_build_object('policy', policy, 'rules', p.rules, 'owner', p.owner));
END
$$;
COMMENT ON FUNCTION tandem.drop_policy IS 'Drops a named policy that no active run uses';
