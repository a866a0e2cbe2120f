-- Test and take all, or nothing.
-- Arguments: deadline, number of claims; for each claim the cap, slots, length of a lease, number of members, members; for each
-- charge the interval, the burst, the units; a member that is given up in all claims, if any.
-- Answer: time, what came of it, and of a refusal its number, what is left, the wait.
local claims, at, firsts = tonumber(ARGV[2]), 3, {}
for i = 1, claims do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', exact(now))
  local left = math.max(tonumber(ARGV[at]) - redis.call('ZCARD', KEYS[i]), 0)
  if tonumber(ARGV[at + 1]) > left then return {now, 2, i - 1, left, 0} end
  firsts[i] = at + 4
  at = at + 4 + tonumber(ARGV[at + 3])
end
local longest, worst, remains, whole = 0, 0, 0, {}
for i = claims + 1, #KEYS do
  local interval, burst, units = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local from = math.max(now, math.min(tonumber(redis.call('GET', KEYS[i]) or now), now + burst))
  whole[i] = from + units * interval
  local wait = whole[i] - now - burst
  if wait > longest then longest, worst, remains = wait, i - 1, math.floor((now + burst - from) / interval) end
  at = at + 3
end
if longest > 0 then return {now, 2, worst, remains, longest} end
for i = claims + 1, #KEYS do
  redis.call('SET', KEYS[i], exact(whole[i]), 'PX', exact(math.ceil((whole[i] - now) / 1000)))
end
for i = 1, claims do
  if ARGV[at] then redis.call('ZREM', KEYS[i], ARGV[at]) end
  lease(KEYS[i], tonumber(ARGV[firsts[i] - 2]), firsts[i], tonumber(ARGV[firsts[i] - 1]))
end
return {now, 1}
