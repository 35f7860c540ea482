-- Stores and tells a result. A success is never overwritten.
-- KEYS: result; ARGV: record, life in s (0: for ever)
local before = redis.call('GET', KEYS[1])
if before then
	local ok, record = pcall(cjson.decode, before)
	if ok and type(record) == 'table' and record.status == 'SUCCESS' then return 0 end
end
if ARGV[2] == '0' then
	redis.call('SET', KEYS[1], ARGV[1])
else
	redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
