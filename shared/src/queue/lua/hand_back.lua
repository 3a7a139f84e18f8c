-- Moves up to ARGV[1] jobs from an in-flight set back to the front of the queue, and returns how many were moved.
-- Jobs named in ARGV[2…] are moved instead, where there are any.
-- KEYS: in-flight set, active list, signal list.
local moved = {}
if #ARGV > 1 then
  for i = 2, #ARGV do
    if redis.call('SREM', KEYS[1], ARGV[i]) == 1 then
      moved[#moved + 1] = ARGV[i]
    end
  end
else
  moved = redis.call('SPOP', KEYS[1], ARGV[1])
end
if #moved > 0 then
  redis.call('LPUSH', KEYS[2], unpack(moved))
  if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('LPUSH', KEYS[3], 1)
  end
end
return #moved
