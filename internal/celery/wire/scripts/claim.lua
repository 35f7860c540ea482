-- Moves messages from their lists to the unacknowledged ones. A message leaves its
-- list last: whatever stops the script, it is not lost.
-- KEYS: the lists in their order, then unacked, unacked_index, ours of those, dead
--       letters
-- ARGV: at most, number of lists, bound of the dead letters, bytes of one message
--       and of all together
-- Returns list, tag, message, list, tag, message, …
local most, lists, bound = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local longest, room = tonumber(ARGV[4]), tonumber(ARGV[5])
local unacked, index, ours, dead = KEYS[lists + 1], KEYS[lists + 2], KEYS[lists + 3], KEYS[lists + 4]
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
-- How much of a message that is too long is kept.
local kept = 65536

local function bury(key, raw, reason)
	local letter = {reason = reason, list = key, time = tonumber(now), bytes = #raw, message = string.sub(raw, 1, kept)}
	if #raw <= longest then letter.message = raw end
	redis.call('LPUSH', dead, cjson.encode(letter))
	redis.call('LTRIM', dead, 0, bound - 1)
end

local function decode(raw)
	local ok, message = pcall(cjson.decode, raw)
	if not ok then
		-- Python writes halves of surrogate pairs, which are no JSON. Two backslashes
		-- are one, and escape nothing.
		local text = string.gsub(string.gsub(raw, '\\\\', ''), '\\u[dD][89a-fA-F]%x%x', '')
		ok, message = pcall(cjson.decode, text)
	end
	return ok and message
end

local function text(value)
	if type(value) == 'string' then return value end
	return ''
end

-- The delivery tag, the exchange and the routing key of a message.
local function address(raw)
	if #raw > longest then return '' end
	local message = decode(raw)
	if type(message) ~= 'table' or type(message.properties) ~= 'table' then return '' end
	local info = message.properties.delivery_info
	if type(info) ~= 'table' then info = {} end
	return text(message.properties.delivery_tag), text(info.exchange), text(info.routing_key)
end

local got = {}
for i = 1, lists do
	while #got < 3 * most and room > 0 do
		local raw = redis.pcall('LINDEX', KEYS[i], -1)
		if type(raw) ~= 'string' then break end -- empty, or no list
		local tag, exchange, key = address(raw)
		if tag ~= '' then
			-- The bytes as they are: to write them anew would damage large numbers.
			redis.call('HSET', unacked, tag, '[' .. raw .. ', ' .. cjson.encode(exchange) .. ', ' .. cjson.encode(key) .. ']')
			redis.call('ZADD', index, now, tag)
			redis.call('ZADD', ours, now, tag)
			got[#got + 1], got[#got + 2], got[#got + 3] = KEYS[i], tag, raw
			room = room - #raw
		elseif #raw > longest then
			bury(KEYS[i], raw, 'it is too long')
		else
			bury(KEYS[i], raw, 'it is no message of Celery')
		end
		redis.call('RPOP', KEYS[i])
	end
end
return got
