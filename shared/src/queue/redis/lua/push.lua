-- Queues deliveries that have no job yet. Of those that have one, which somebody may be working on, it is noted that they
-- are wanted again.
-- KEYS: lane. ARGV: how many deliveries, how long limits outlive their last use in ms, the deliveries, owner, how many of
-- them are its, its cap, its rate (empty: none), owner, …
local lane, total = KEYS[1], tonumber(ARGV[1])

-- What is known already may be newer than what came with the jobs.
local function know(flow, cap, rate)
  if (cap ~= '' or rate ~= '') and call('EXISTS', LIMITS .. flow) == 0 then
    set_limits(flow, cap, rate, ARGV[2])
  end
end

local known = call('HMGET', lane .. ':data', unpack(ARGV, 3, total + 2))
local fresh, again, added, at = {}, {}, {}, 1
for i = total + 3, #ARGV, 4 do
  local owner, ids = ARGV[i], {}
  for place = at, at + ARGV[i + 1] - 1 do
    local id = ARGV[place + 2]
    if known[place] then
      again[#again + 1] = id
    elseif not added[id] then
      added[id] = true
      ids[#ids + 1] = id
      fresh[#fresh + 1] = id
      fresh[#fresh + 1] = owner
    end
  end
  at = at + ARGV[i + 1]
  if #ids > 0 then
    local tenant, flow = split(owner)
    know(flow, ARGV[i + 2], ARGV[i + 3])
    -- A list that was empty belongs to a flow that stood nowhere.
    if call('RPUSH', lane .. ':waiting:' .. flow, unpack(ids)) == #ids then
      admit(lane, tenant, flow)
    end
  end
end
if #again > 0 then
  call('SADD', lane .. ':again', unpack(again))
end
if #fresh > 0 then
  call('HSET', lane .. ':data', unpack(fresh))
  call('INCRBY', lane .. ':depth', #fresh / 2)
  ring_bell(lane)
end
return #fresh / 2
