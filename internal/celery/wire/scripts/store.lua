-- Stores and tells how a task comes along. A last answer is never overwritten.
-- KEYS: result, marker of the last answer; ARGV: record, life in s (0: for ever)
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local before = redis.pcall('GET', KEYS[1])
if type(before) == 'string' then
	local ok, record = pcall(cjson.decode, before)
	local last = ok and type(record) == 'table' and record.status
	if last == 'SUCCESS' or last == 'FAILURE' or last == 'REVOKED' then return 0 end
end
if ARGV[2] == '0' then
	redis.call('SET', KEYS[1], ARGV[1])
else
	redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
