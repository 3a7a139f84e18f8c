-- Registers the worker ARGV[1] as apalis-redis does, and notes what it still has in flight (ARGV[2…]) where Redis has
-- lost that, so that the sweep does not queue it a second time.
-- KEYS: worker set, worker metadata, the worker's in-flight set, data hash, apalis's list of queues.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZADD', KEYS[5], 'GT', now, KEYS[1])
redis.call('HSET', KEYS[2], 'backend_name', 'RedisStorage', 'service', 'relaypost')
for i = 2, #ARGV do
  redis.call('HSETNX', KEYS[4], ARGV[i], '')
  redis.call('SADD', KEYS[3], ARGV[i])
end
return redis.status_reply('OK')
