-- Registers the worker ARGV[1] as apalis-redis does, and notes what it still holds (ARGV[2…]: delivery, owner, …) where
-- Redis has lost that, so that the sweep does not queue it a second time and it keeps its places. What Redis knows is
-- left as it is: it waits, or somebody has it.
-- KEYS: lane, worker set, worker metadata, the worker's in-flight set, apalis's list of queues.
local now = seconds()
call('ZADD', KEYS[2], now, ARGV[1])
call('ZADD', KEYS[5], 'GT', now, KEYS[2])
call('HSET', KEYS[3], 'backend_name', 'RedisStorage', 'service', 'relaypost')
for i = 2, #ARGV, 2 do
  if call('HSETNX', KEYS[1] .. ':data', ARGV[i], ARGV[i + 1]) == 1 then
    call('SADD', KEYS[4], ARGV[i])
    local _, flow = split(ARGV[i + 1])
    call('HINCRBY', IN_FLIGHT, flow, 1)
  end
end
return redis.status_reply('OK')
