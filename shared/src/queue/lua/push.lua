-- Queues deliveries that have no job yet.
-- KEYS: data hash, active list, signal list. ARGV: delivery, tenant, delivery, tenant, …
local added = 0
for i = 1, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[i])
    added = added + 1
  end
end
if added > 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('LPUSH', KEYS[3], 1)
end
return added
