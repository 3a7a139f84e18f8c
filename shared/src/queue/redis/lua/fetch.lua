-- Takes up to ARGV[2] jobs for the worker ARGV[1]: tenants take turns, and within a tenant its flows. ARGV[3]: cap of an
-- endpoint without one of its own (empty: none). ARGV[4]: jobs a turn. ARGV[5]: how long limits outlive their last
-- use, in ms.
-- KEYS: lane, worker set, the worker's in-flight set.
-- Returns {µs until a delayed flow may go on, or -1; {{owner, cap, rate, {deliveries}}, …}}.
local VISITS = 128
local PROMOTED = 128
-- No flow is delayed for longer: what seems to be was delayed by a clock that has been set back since.
local LONGEST_DELAY = 2000000

local lane, in_flight = KEYS[1], KEYS[3]
local worker, most, default_cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local share, keep = tonumber(ARGV[4]), ARGV[5]
local active, delayed = lane .. ':active', lane .. ':delayed'
if not call('ZSCORE', KEYS[2], worker) then
  return redis.error_reply('NOTREGISTERED the worker is unknown here')
end
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local answer, taken = {}, {}

local function micros(at)
  return string.format('%.0f', at)
end

local function block(flow)
  local lanes = call('HGET', BLOCKED, flow)
  call('HSET', BLOCKED, flow, lanes and lanes .. ' ' .. lane or lane)
end

-- Until half of the burst may go: with a wake-up for each request the workers would do little else.
local function delay(tenant, flow, rule)
  local due = rule.tat - (rule.burst - math.max(1, math.floor(rule.burst / 2))) * rule.step
  call('ZADD', delayed, micros(math.ceil(due)), tenant .. ' ' .. flow)
end

local function pop(flow, count)
  local ids = {}
  for _, id in ipairs(call('LPOP', lane .. ':waiting:' .. flow, count) or {}) do
    -- Whatever else is in the list was not put there by us, and is gone now. A pattern would cost more than all the rest.
    if #id == 30 and string.sub(id, 1, 4) == 'dlv_' then
      ids[#ids + 1] = id
      taken[#taken + 1] = id
    end
  end
  return ids
end

-- A flow's turn. Returns whether it stays in its ring; otherwise it stands with the blocked, with the delayed, or, with
-- nothing left that waits, nowhere.
local function turn(tenant, flow, count)
  local limits = call('HMGET', LIMITS .. flow, 'cap', 'rate', 'tat')
  local cap, rate = tonumber(limits[1]), tonumber(limits[2])
  local limited = cap or rate
  if not cap and flow ~= tenant then
    cap = default_cap
  end
  local free = cap and cap - (call('HGET', IN_FLIGHT, flow) or 0) or math.huge
  if free <= 0 then
    block(flow)
    return false
  end
  local rule = rate and gcra(now, rate, tonumber(limits[3])) or { allowed = math.huge }
  if rule.allowed <= 0 then
    delay(tenant, flow, rule)
    return false
  end
  local ids = pop(flow, math.min(count, free, rule.allowed))
  if #ids > 0 then
    call('HINCRBY', IN_FLIGHT, flow, #ids)
    answer[#answer + 1] = { tenant .. ' ' .. flow, limits[1], limits[2], ids }
  end
  if rate then
    rule.tat = rule.tat + #ids * rule.step
    call('HSET', LIMITS .. flow, 'tat', micros(math.ceil(rule.tat)))
  end
  if limited then
    call('PEXPIRE', LIMITS .. flow, keep)
  end
  if call('EXISTS', lane .. ':waiting:' .. flow) == 0 then
    return false
  elseif free <= #ids then
    block(flow)
    return false
  elseif rule.allowed <= #ids then
    delay(tenant, flow, rule)
    return false
  end
  return true
end

local due = call('ZRANGEBYSCORE', delayed, '-inf', micros(now), 'LIMIT', 0, PROMOTED)
if #due == 0 then
  due = call('ZRANGEBYSCORE', delayed, micros(now + LONGEST_DELAY), '+inf', 'LIMIT', 0, PROMOTED)
end
if #due > 0 then
  call('ZREM', delayed, unpack(due))
  for _, owner in ipairs(due) do
    admit(lane, split(owner))
  end
end

-- Whose turn it is goes to the end of the rings first, and leaves them from there if it has to.
local tenants = call('LLEN', active)
for _ = 1, VISITS do
  local left = most - #taken
  if left <= 0 or tenants == 0 then
    break
  end
  local tenant = call('LMOVE', active, active, 'LEFT', 'RIGHT')
  local ring = active .. ':' .. tenant
  local flow = call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
  -- With nobody else there is no need for turns.
  local count = tenants == 1 and call('LLEN', ring) <= 1 and left or math.min(left, share)
  if not flow or not turn(tenant, flow, count) then
    call('RPOP', ring)
    if call('EXISTS', ring) == 0 then
      call('RPOP', active)
      tenants = tenants - 1
    end
  end
end

if #taken > 0 then
  call('SADD', in_flight, unpack(taken))
  -- Who takes a job sees all that it was pushed for until now.
  if call('EXISTS', lane .. ':again') == 1 then
    call('SREM', lane .. ':again', unpack(taken))
  end
  if call('DECRBY', lane .. ':depth', #taken) <= 0 then
    call('DEL', lane .. ':depth')
  end
end
-- What is left over wakes the next worker; so do delayed flows when this one may be too full to come back for them.
if tenants > 0 or (#taken >= most and call('EXISTS', delayed) == 1) then
  ring_bell(lane)
end
local wait = -1
if #taken == 0 then
  local first = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  if first[2] then
    wait = math.max(0, tonumber(first[2]) - now)
  end
end
return { wait, answer }
