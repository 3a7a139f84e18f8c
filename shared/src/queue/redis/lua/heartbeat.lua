-- Says that the worker ARGV[1] lives, and names workers that have said nothing for ARGV[2] seconds.
-- The server's clock decides, so that the workers' clocks need not agree.
-- KEYS: worker set.
local now = tonumber(redis.call('TIME')[1])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return redis.error_reply('NOTREGISTERED the worker is unknown here')
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
