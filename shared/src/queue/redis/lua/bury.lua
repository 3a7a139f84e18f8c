-- Puts up to ARGV[2] jobs of the worker ARGV[1] back into the queue, and forgets the worker with the last of them: never
-- before, for what is in flight for a worker that nobody knows would stay so for good. With ARGV[3] only if it has said
-- nothing for that many seconds: it may have come back.
-- KEYS: lane, worker set, worker metadata, the worker's in-flight set.
-- Returns how many were moved, and whether that was all.
local score = tonumber(call('ZSCORE', KEYS[2], ARGV[1]))
local silence = tonumber(ARGV[3])
if score and silence and score > seconds() - silence then
  return { 0, 1 }
end
local ids = call('SPOP', KEYS[4], ARGV[2])
give_back(KEYS[1], ids)
if call('EXISTS', KEYS[4]) == 1 then
  return { #ids, 0 }
end
call('ZREM', KEYS[2], ARGV[1])
call('DEL', KEYS[3])
-- It may have been the one that kept an eye on the delayed flows.
ring_bell(KEYS[1])
return { #ids, 1 }
