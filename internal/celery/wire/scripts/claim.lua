-- Moves messages from their lists to the unacknowledged ones.
-- KEYS: the lists in their order, then unacked, unacked_index, dead letters
-- ARGV: at most, number of lists, bound of the dead letters
-- Returns list, message, list, message, …
local most, lists, bound = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local unacked, index, dead = KEYS[lists + 1], KEYS[lists + 2], KEYS[lists + 3]
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local got = {}

local function bury(key, raw, reason)
	redis.call('LPUSH', dead, cjson.encode({reason = reason, list = key, time = now, message = raw}))
	redis.call('LTRIM', dead, 0, bound - 1)
end

local function text(value)
	if type(value) == 'string' then return value end
	return ''
end

for i = 1, lists do
	while #got < 2 * most do
		local raw = redis.call('RPOP', KEYS[i])
		if not raw then break end
		local ok, message = pcall(cjson.decode, raw)
		local tag, exchange, key
		if ok and type(message) == 'table' and type(message.properties) == 'table' then
			tag = message.properties.delivery_tag
			local info = message.properties.delivery_info
			if type(info) == 'table' then exchange, key = info.exchange, info.routing_key end
		end
		if type(tag) == 'string' and tag ~= '' then
			-- The bytes as they are: to write them anew would damage large numbers.
			redis.call('ZADD', index, now, tag)
			redis.call('HSET', unacked, tag, '[' .. raw .. ', ' .. cjson.encode(text(exchange)) .. ', ' .. cjson.encode(text(key)) .. ']')
			got[#got + 1] = KEYS[i]
			got[#got + 1] = raw
		else
			bury(KEYS[i], raw, 'it is no message of Celery')
		end
	end
end
return got
