-- Puts those jobs of ARGV that the worker holds back into the queue.
-- KEYS: lane, the worker's in-flight set.
local held = members(KEYS[2], ARGV)
if #held > 0 then
  call('SREM', KEYS[2], unpack(held))
  give_back(KEYS[1], held)
end
return #held
