-- Removes finished jobs, ARGV, and every trace of them. A job that this worker no longer holds is left alone: it is
-- another worker's, or waits, and whoever has it next finds that there is nothing to do.
-- KEYS: lane, the worker's in-flight set.
local done = members(KEYS[2], ARGV)
if #done == 0 then
  return 0
end
local owners, jobs = by_owner(KEYS[1], done)
call('SREM', KEYS[2], unpack(done))
call('HDEL', KEYS[1] .. ':data', unpack(done))
for _, owner in ipairs(owners) do
  local tenant, flow = split(owner)
  release(tenant, flow, #jobs[owner])
end
return #done
