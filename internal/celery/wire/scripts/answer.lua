-- Gives the last answer to a task, once: sends what follows it, stores and tells
-- it, and counts its part of a chord.
-- KEYS: marker, result; the list of each message; the results of the rest of its
--       chain; parts, size and extra size of each chord
-- ARGV: life of results and of the marker in s (0: for ever), number of messages,
--       of further results and of chords, record (empty: nobody wants it); the
--       messages; the further records; score and part for each chord
-- Returns for each chord whether all its parts are there.
local life, memory = ARGV[1], ARGV[2]
local messages, rest, chords = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- What somebody else uses a key for is left alone, and holds nothing up.
local function try(...)
	local reply = redis.pcall(...)
	if type(reply) == 'table' and reply.err then
		if string.find(reply.err, 'WRONGTYPE', 1, true) then return false end
		return redis.call(...)
	end
	return reply
end

local function succeeded(key)
	local ok, record = pcall(cjson.decode, try('GET', key) or '')
	return ok and type(record) == 'table' and record.status == 'SUCCESS'
end

local function tell(key, record)
	if life == '0' then
		redis.call('SET', key, record)
	else
		redis.call('SETEX', key, life, record)
	end
	redis.call('PUBLISH', key, record)
end

local fresh = redis.call('EXISTS', KEYS[1]) == 0
-- A success that is not ours comes with all that follows it.
if fresh and not succeeded(KEYS[2]) then
	for i = 1, messages do
		try('LPUSH', KEYS[2 + i], ARGV[6 + i])
	end
	if ARGV[6] ~= '' then tell(KEYS[2], ARGV[6]) end
	for i = messages + 1, messages + rest do
		if not succeeded(KEYS[2 + i]) then tell(KEYS[2 + i], ARGV[6 + i]) end
	end
	for i = 1, chords do
		local key, arg = 2 + messages + rest + 3 * (i - 1), 6 + messages + rest + 2 * (i - 1)
		try('ZADD', KEYS[key + 1], ARGV[arg + 1], ARGV[arg + 2])
		for k = 1, 3 do
			if life ~= '0' then redis.call('EXPIRE', KEYS[key + k], life) end
		end
	end
end
-- The marker comes last: what went wrong before it is done again.
if fresh then redis.call('SETEX', KEYS[1], memory, '1') end

local complete = {}
for i = 1, chords do
	local key = 2 + messages + rest + 3 * (i - 1)
	local size, extra = tonumber(try('GET', KEYS[key + 2]) or nil), tonumber(try('GET', KEYS[key + 3]) or 0)
	local there = size and try('ZCARD', KEYS[key + 1])
	complete[i] = there and there == size + (extra or 0) and 1 or 0
end
return complete
