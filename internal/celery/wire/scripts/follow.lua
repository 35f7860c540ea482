-- Sends the calls that follow a task, once.
-- KEYS: marker, then the list of each; ARGV: life of the marker in s, then the messages
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
for i = 2, #KEYS do
	redis.call('LPUSH', KEYS[i], ARGV[i])
end
return 1
