-- Writes, as every script of the queue does: a Redis that is full, read-only or without scripts refuses this too.
-- KEYS: the probe's key. ARGV[1]: how long it stays, in ms.
call('SET', KEYS[1], call('TIME')[1], 'PX', ARGV[1])
return redis.status_reply('OK')
