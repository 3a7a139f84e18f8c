-- Says that the worker ARGV[1] lives, and names workers that have said nothing for ARGV[2] seconds.
-- KEYS: worker set.
local now = seconds()
if not call('ZSCORE', KEYS[1], ARGV[1]) then
  return redis.error_reply('NOTREGISTERED the worker is unknown here')
end
call('ZADD', KEYS[1], now, ARGV[1])
return call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
