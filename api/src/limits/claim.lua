-- Takes from every limit of a request, or from none of them when one is used up (the generic cell rate algorithm, see
-- gcra.rs). The time is this server's, so that the clocks of the API processes need not agree.
-- KEYS: one for each limit, holding the theoretical arrival time of its next request (µs since 1970); it goes by itself
-- when the limit is unused again. ARGV: step (µs), burst, cost, paid, step, …
-- Answers for each limit how far it is ahead of the clock and how long to wait (µs).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arrivals = redis.call('MGET', unpack(KEYS))
local kept, taken, waits, refused = {}, {}, {}, false
for i = 1, #KEYS do
  local step, burst = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local cost, paid = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local full = step * burst
  local before = (tonumber(arrivals[i] or 0) or 0) - paid * step
  kept[i] = math.min(math.max(before, now), now + full)
  taken[i] = kept[i] + cost * step
  waits[i] = math.max(taken[i] - full - now, 0)
  refused = refused or waits[i] > 0
end
local answer = {}
for i, key in ipairs(KEYS) do
  local arrival = refused and kept[i] or taken[i]
  if arrival > now then
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
  else
    redis.call('DEL', key)
  end
  answer[2 * i - 1] = arrival - now
  answer[2 * i] = waits[i]
end
return answer
