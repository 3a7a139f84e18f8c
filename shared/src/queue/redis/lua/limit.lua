-- Sets the limits of flows, for ARGV[1] ms after they are last used, and lets those that wait try again under them.
-- KEYS: every lane. ARGV[2…]: owner, cap, rate, owner, … (empty: none)
for i = 2, #ARGV, 3 do
  local tenant, flow = split(ARGV[i])
  set_limits(flow, ARGV[i + 1], ARGV[i + 2], ARGV[1])
  unblock(tenant, flow)
  for _, lane in ipairs(KEYS) do
    if call('ZREM', lane .. ':delayed', ARGV[i]) == 1 then
      admit(lane, tenant, flow)
      ring_bell(lane)
    end
  end
end
return redis.status_reply('OK')
