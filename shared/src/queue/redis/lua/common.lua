-- What the scripts share; it stands in front of each of them. The layout of keys is described in redis/mod.rs.
local call = redis.call
local IN_FLIGHT = 'relaypost:flows:inflight'
local BLOCKED = 'relaypost:flows:blocked'
local LIMITS = 'relaypost:flows:limits:'

-- The time in seconds, with its fraction. The server's clock decides, so that the workers' clocks need not agree.
local function seconds()
  local time = call('TIME')
  return time[1] + time[2] / 1000000
end

-- The tenant and the flow of an owner, which is written 'tenant flow'.
local function split(owner)
  local space = string.find(owner, ' ', 1, true)
  return string.sub(owner, 1, space - 1), string.sub(owner, space + 1)
end

-- Wakes one idle worker of a lane. One element in the list says "look", and more would say nothing else.
local function ring_bell(lane)
  if call('EXISTS', lane .. ':signal') == 0 then
    call('LPUSH', lane .. ':signal', 1)
  end
end

-- Puts a flow that stands nowhere at the end of its tenant's ring, and the tenant, unless it is there, at the end of
-- the lane's.
local function admit(lane, tenant, flow)
  if call('RPUSH', lane .. ':active:' .. tenant, flow) == 1 then
    call('RPUSH', lane .. ':active', tenant)
  end
end

-- Lets a flow that waits for a place try again, in every lane where it does.
local any_blocked
local function unblock(tenant, flow)
  if any_blocked == nil then
    any_blocked = call('EXISTS', BLOCKED) == 1
  end
  local lanes = any_blocked and call('HGET', BLOCKED, flow)
  if lanes then
    call('HDEL', BLOCKED, flow)
    for lane in string.gmatch(lanes, '%S+') do
      admit(lane, tenant, flow)
      ring_bell(lane)
    end
  end
end

-- Sets the limits of a flow (empty: none), for `keep` ms after they are last used.
local function set_limits(flow, cap, rate, keep)
  local limits = LIMITS .. flow
  if cap ~= '' then
    call('HSET', limits, 'cap', cap)
  else
    call('HDEL', limits, 'cap')
  end
  if rate ~= '' then
    call('HSET', limits, 'rate', rate)
  else
    call('HDEL', limits, 'rate', 'tat')
  end
  call('PEXPIRE', limits, keep)
end

-- A flow has `count` jobs less in flight.
local function release(tenant, flow, count)
  if call('HINCRBY', IN_FLIGHT, flow, -count) <= 0 then
    call('HDEL', IN_FLIGHT, flow)
  end
  unblock(tenant, flow)
end

-- Sorts jobs by owner: the owners in the order in which they occur, and the jobs of each.
local function by_owner(lane, ids)
  local owners, jobs = {}, {}
  for i, owner in ipairs(call('HMGET', lane .. ':data', unpack(ids))) do
    if owner then
      local its = jobs[owner]
      if not its then
        its = {}
        jobs[owner] = its
        owners[#owners + 1] = owner
      end
      its[#its + 1] = ids[i]
    end
  end
  return owners, jobs
end

-- Those of `ids` that stand in a worker's in-flight set. Whatever changes a count asks this first, so that nothing is
-- taken off twice: not for a job acknowledged twice, nor for one that another worker has taken over.
local function members(set, ids)
  local found = {}
  for i, member in ipairs(call('SMISMEMBER', set, unpack(ids))) do
    if member == 1 then
      found[#found + 1] = ids[i]
    end
  end
  return found
end

-- Puts jobs that were just removed from an in-flight set in front of those of their flow, the oldest first.
local function give_back(lane, ids)
  if #ids == 0 then
    return
  end
  table.sort(ids, function(a, b) return a > b end)
  local owners, jobs = by_owner(lane, ids)
  local moved = 0
  for _, owner in ipairs(owners) do
    local tenant, flow = split(owner)
    local count = #jobs[owner]
    if call('LPUSH', lane .. ':waiting:' .. flow, unpack(jobs[owner])) == count then
      admit(lane, tenant, flow)
    end
    release(tenant, flow, count)
    moved = moved + count
  end
  call('INCRBY', lane .. ':depth', moved)
  ring_bell(lane)
end

-- The generic cell rate algorithm (ITU-T I.371, annex A; https://brandur.org/rate-limiting). `tat` is the theoretical
-- arrival time of the next request: how far it is ahead of the clock says how much of the burst is used up. A burst is
-- what may go in 100 ms, and one request at least. `now` is in µs.
local function gcra(now, rate, tat)
  local rule = { step = 1000000 / rate, burst = math.max(1, math.floor(rate / 10)) }
  local window = rule.burst * rule.step
  rule.tat = math.max(now, math.min(tat or 0, now + window))
  rule.allowed = math.floor((now + window - rule.tat) / rule.step + 0.000001)
  return rule
end

