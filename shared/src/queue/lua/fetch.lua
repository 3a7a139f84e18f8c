-- Takes up to ARGV[1] jobs for the worker ARGV[2]. What is left over wakes the next worker.
-- KEYS: worker set, active list, the worker's in-flight set, signal list.
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  return redis.error_reply('NOTREGISTERED the worker is unknown here')
end
local ids = redis.call('LPOP', KEYS[2], ARGV[1])
if not ids then
  return {}
end
redis.call('SADD', KEYS[3], unpack(ids))
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('LPUSH', KEYS[4], 1)
end
return ids
