"""The Redis scripts. Each is one atomic step by the server's own clock, and names all its keys.

``ADMIT`` is the twin of ``MemoryStore.admit``. It and ``RENEW`` do nothing after the server's time ``ARGV[1]``: a server that
hung, and then reads what was sent to it long ago, must not charge a batch that nobody waits for any more. All times are in
microseconds, which a double holds exactly.
"""

from __future__ import annotations

from hashlib import sha1

from msgspec import Struct

__all__ = ["ADMIT", "ADMITTED", "GIVE_BACK", "LATE", "RENEW", "Script"]

LATE, ADMITTED = 0, 1


class Script(Struct, frozen=True):
    """A script and the name that a server which has seen it knows it by."""

    text: str
    name: str

    @classmethod
    def of(cls, text: str) -> Script:
        """The script with this text."""
        # The name is Redis's own choice, and guards nothing.
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


BEGIN = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[1]) then return {now, 0} end
local function exact(number) return string.format('%.0f', number) end
local function lease(key, length, first, count)
  for i = first, first + count - 1 do redis.call('ZADD', key, exact(now + length), ARGV[i]) end
  if count > 0 then redis.call('PEXPIRE', key, exact(math.ceil(length / 1000))) end
end
"""

# Arguments: deadline, number of claims; for each claim the cap, slots, length of a lease, number of members, members; for each
# charge the interval, the burst, the units; a member that is given up in all claims, if any. Answer: time, what came of it, and
# of a refusal its number, what is left, the wait.
ADMIT = Script.of(
    BEGIN
    + """
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
"""
)

# Arguments: deadline; for each claim the length of a lease, number of members, members. A lease that was lost is taken again,
# even over the cap: its work does go on.
RENEW = Script.of(
    BEGIN
    + """
local at = 2
for i = 1, #KEYS do
  lease(KEYS[i], tonumber(ARGV[at]), at + 2, tonumber(ARGV[at + 1]))
  at = at + 2 + tonumber(ARGV[at + 1])
end
return {now, 1}
"""
)

# Arguments: members, which are given back in all keys.
GIVE_BACK = Script.of(
    """
for i = 1, #KEYS do
  for j = 1, #ARGV do redis.call('ZREM', KEYS[i], ARGV[j]) end
end
return {0, 1}
"""
)
