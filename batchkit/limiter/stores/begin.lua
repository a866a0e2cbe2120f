-- What admit and renew begin with. Argument 1: the time, in microseconds, after which they do nothing.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[1]) then return {now, 0} end
local function exact(number) return string.format('%.0f', number) end
local function lease(key, length, first, count)
  for i = first, first + count - 1 do redis.call('ZADD', key, exact(now + length), ARGV[i]) end
  if count > 0 then redis.call('PEXPIRE', key, exact(math.ceil(length / 1000))) end
end
