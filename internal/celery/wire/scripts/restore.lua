-- Gives a message back, unless somebody else has done so.
-- KEYS: unacked, unacked_index, list; ARGV: delivery tag, message
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
	redis.call('RPUSH', KEYS[3], ARGV[2])
	return 1
end
return 0
