-- Arguments: members, which are given back in all keys.
for i = 1, #KEYS do
  for j = 1, #ARGV do redis.call('ZREM', KEYS[i], ARGV[j]) end
end
return {0, 1}
