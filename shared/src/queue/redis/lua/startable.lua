-- What a worker could start now: of every flow that is ready, as many jobs as its cap and its rate let through. Looks at up
-- to ARGV[1] flows, and changes nothing. ARGV[2]: cap of an endpoint without one of its own (empty: none).
-- KEYS: lane.
-- Returns {jobs that wait, jobs that could start, {the first job of each flow that is ready}}.
local lane, most, default_cap = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local startable, heads = 0, {}

local function look(tenant, flow)
  local waiting = lane .. ':waiting:' .. flow
  local limits = call('HMGET', LIMITS .. flow, 'cap', 'rate', 'tat')
  local cap, rate = tonumber(limits[1]), tonumber(limits[2])
  if not cap and flow ~= tenant then
    cap = default_cap
  end
  local count = call('LLEN', waiting)
  if cap then
    count = math.min(count, cap - (call('HGET', IN_FLIGHT, flow) or 0))
  end
  if rate then
    count = math.min(count, gcra(now, rate, tonumber(limits[3])).allowed)
  end
  if count > 0 then
    startable = startable + count
    heads[#heads + 1] = call('LINDEX', waiting, 0)
  end
end

-- A flow whose rate lets it go on by now stands with the delayed until the next fetch.
for _, owner in ipairs(call('ZRANGEBYSCORE', lane .. ':delayed', '-inf', string.format('%.0f', now), 'LIMIT', 0, most)) do
  look(split(owner))
  most = most - 1
end
for _, tenant in ipairs(most > 0 and call('LRANGE', lane .. ':active', 0, most - 1) or {}) do
  if most <= 0 then
    break
  end
  for _, flow in ipairs(call('LRANGE', lane .. ':active:' .. tenant, 0, most - 1)) do
    look(tenant, flow)
    most = most - 1
  end
end
return { tonumber(call('GET', lane .. ':depth') or 0), startable, heads }
