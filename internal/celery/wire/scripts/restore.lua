-- Gives a message back, unless somebody else has done so, or its holder was heard
-- of meanwhile.
-- KEYS: unacked, unacked_index, ours of those, list
-- ARGV: delivery tag, message; until when the holder was not heard of, for the
--       first index and for ours (both empty: give it back in any case)
-- Returns whether it was given back.
if ARGV[3] ~= '' then
	local any, ours = redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('ZSCORE', KEYS[3], ARGV[1])
	local silent = any and tonumber(any) <= tonumber(ARGV[3]) or ours and tonumber(ours) <= tonumber(ARGV[4])
	if not silent then return 0 end
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
	redis.call('RPUSH', KEYS[4], ARGV[2])
	return 1
end
return 0
