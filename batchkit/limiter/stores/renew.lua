-- Prolong leases. One that was lost is taken again, even over the cap: its work does go on.
-- Arguments: deadline; for each claim the length of a lease, number of members, members.
local at = 2
for i = 1, #KEYS do
  lease(KEYS[i], tonumber(ARGV[at]), at + 2, tonumber(ARGV[at + 1]))
  at = at + 2 + tonumber(ARGV[at + 1])
end
return {now, 1}
