-- Says that messages are still held. One that was acknowledged stays so.
-- KEYS: unacked_index, ours of those; ARGV: delivery tags
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
for i = 1, #ARGV do
	redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i])
	redis.call('ZADD', KEYS[2], 'XX', now, ARGV[i])
end
return #ARGV
