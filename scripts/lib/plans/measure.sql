-- What a statement costs, prepared as the product prepares it: `measure(name, statement, arguments)`. In the arguments %r is
-- the number of the run: what a statement writes is taken back, but leaves the page of its row fuller.
CREATE TABLE measured (place serial, name text, statement text, plan text, rows bigint, buffers bigint, ms numeric);

-- A plan in one line: `Limit(Index Scan deliveries_pkey)`.
CREATE FUNCTION shape(node jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE node->>'Node Type' WHEN 'ModifyTable' THEN node->>'Operation' ELSE node->>'Node Type' END
    || coalesce(' ' || coalesce(node->>'Index Name', node->>'Relation Name'), '')
    || coalesce('(' || (SELECT string_agg(DISTINCT shape(child), ', ') FROM jsonb_array_elements(node->'Plans') child) || ')', '')
$$;

-- The pages that a node and those below it have looked at. What a statement writes in a part that nothing refers to is in none
-- of the others.
CREATE FUNCTION buffers(node jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT (node->>'Shared Hit Blocks')::bigint + (node->>'Shared Read Blocks')::bigint
$$;

-- Five executions get a plan for their arguments; then PostgreSQL takes the plan for any arguments, if it thinks that no
-- dearer. Noted is whichever of the two reads more, each at its fastest.
CREATE PROCEDURE measure(name text, statement text, arguments text) LANGUAGE plpgsql AS $$
DECLARE
  answer jsonb; plan jsonb; best measured; worst measured;
BEGIN
  EXECUTE 'PREPARE measured_one AS ' || statement;
  FOR run IN 1..8 LOOP
    IF run = 6 THEN
      worst := best;
      best.ms := NULL;
    END IF;
    BEGIN
      EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE measured_one' || replace(arguments, '%r', run::text) INTO answer;
      RAISE EXCEPTION SQLSTATE 'RP001';
    EXCEPTION WHEN SQLSTATE 'RP001' THEN NULL;
    END;
    plan := answer->0->'Plan';
    IF best.ms IS NULL OR (answer->0->>'Execution Time')::numeric < best.ms THEN
      best.plan := shape(plan);
      best.rows := plan->>'Actual Rows';
      best.buffers := greatest(buffers(plan), (SELECT sum(buffers(part)) FROM jsonb_array_elements(plan->'Plans') part
        WHERE part->>'Subplan Name' LIKE 'CTE %'));
      best.ms := answer->0->>'Execution Time';
    END IF;
  END LOOP;
  IF best.buffers > worst.buffers THEN worst := best; END IF;
  DEALLOCATE measured_one;
  INSERT INTO measured (name, statement, plan, rows, buffers, ms) VALUES (name, statement, worst.plan, worst.rows, worst.buffers, worst.ms);
END $$;
