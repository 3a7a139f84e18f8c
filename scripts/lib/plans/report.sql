-- What was measured, as Markdown. `12 → 15`: with the smallest and with the largest number of deliveries.
SELECT '| statement | plan with the most deliveries | rows | buffers | ms |' || E'\n|---|---|---|---|---|';
SELECT format('| %s<br>`%s` | %s | %s | %s | %s |', name,
    left((array_agg(regexp_replace(statement, '\s+', ' ', 'g')))[1], 160) || CASE WHEN length(min(statement)) > 160 THEN '…' ELSE '' END,
    (array_agg(plan ORDER BY size DESC))[1], string_agg(rows::text, ' → ' ORDER BY size), string_agg(buffers::text, ' → ' ORDER BY size),
    string_agg(round(ms, 2)::text, ' → ' ORDER BY size))
  FROM measured GROUP BY place, name ORDER BY place;
SELECT E'\n| table or index | WAL bytes for each delivery | size |\n|---|---|---|';
SELECT format('| %s | %s | %s |', relation, string_agg(bytes::text, ' → ' ORDER BY size),
    string_agg(pg_size_pretty(kilobytes * 1024), ' → ' ORDER BY size))
  FROM grown WHERE kilobytes IS NOT NULL GROUP BY relation HAVING max(bytes) > 1 ORDER BY max(bytes) DESC;
SELECT format('| together | %s | |', string_agg(bytes::text, ' → ' ORDER BY size))
  FROM (SELECT size, sum(bytes) AS bytes FROM grown WHERE kilobytes IS NOT NULL GROUP BY size) sums;
SELECT format(E'\nPages read or written for each delivery: %s. Updates in place: %s %%.',
    string_agg(bytes::text, ' → ' ORDER BY size) FILTER (WHERE relation = 'blocks'),
    string_agg(bytes::text, ' → ' ORDER BY size) FILTER (WHERE relation = 'hot'))
  FROM grown;
