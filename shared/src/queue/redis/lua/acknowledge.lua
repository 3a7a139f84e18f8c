-- Removes finished jobs, ARGV, and every trace of them. One that was pushed while it was worked on goes back into the queue
-- instead: what it was pushed for came after what the worker has seen. A job that this worker no longer holds is left alone: it is
-- another worker's, or waits, and whoever has it next finds that there is nothing to do.
-- KEYS: lane, the worker's in-flight set.
local done = members(KEYS[2], ARGV)
if #done == 0 then
  return 0
end
call('SREM', KEYS[2], unpack(done))
local again = KEYS[1] .. ':again'
if call('EXISTS', again) == 1 then
  local wanted, rest = {}, {}
  for i, member in ipairs(call('SMISMEMBER', again, unpack(done))) do
    local list = member == 1 and wanted or rest
    list[#list + 1] = done[i]
  end
  if #wanted > 0 then
    call('SREM', again, unpack(wanted))
    give_back(KEYS[1], wanted)
  end
  if #rest == 0 then
    return #done
  end
  done = rest
end
local owners, jobs = by_owner(KEYS[1], done)
call('HDEL', KEYS[1] .. ':data', unpack(done))
for _, owner in ipairs(owners) do
  local tenant, flow = split(owner)
  release(tenant, flow, #jobs[owner])
end
return #done
