package redisquiesce

import "github.com/redis/go-redis/v9"

// The scripts of a Cache take the key and its guard, which is the coordinator's: a hash with t the token of the last write, b the server's
// milliseconds at the last invalidate, l and x a reader's lease (its id, and its end on the server's clock). Every write of the coordinator and
// every invalidate clears l and x. Only the server's clock is used, and tokens are compared as text, first by length: Lua's numbers lose
// integers above 2^53.
//
// Nothing here ever makes a guard live shorter: it may remember a change that a slow write must not overtake.
const (
	prelude = `
local key, guard = KEYS[1], KEYS[2]

local function failed(answer)
  if type(answer) ~= 'table' or not answer.err then return nil end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then return {'foreign'} end
  return answer
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function keep(ttl)
  if redis.call('PTTL', guard) < ttl then redis.call('PEXPIRE', guard, ttl) end
end
`
	// ARGV is the lease's id, its length, and a token that the value must not be older than, or 0. It answers hit with the value; behind, if
	// there is a value that may be older than the token; wait, if somebody else has the lease; lease, with 1 if the guard remembers a change.
	// A value that is loaded from now on is not older than the token: its commit came before the token was given.
	leaseSource = prelude + `
local id, length, after = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local state = redis.pcall('HMGET', guard, 't', 'b', 'l', 'x')
local fault = failed(state)
if fault then return fault end
local value = redis.pcall('GET', key)
fault = failed(value)
if fault then return fault end
if value then
  local seen = state[1]
  if after == '0' or seen and (#seen > #after or #seen == #after and seen >= after) then return {'hit', value} end
  return {'behind'}
end
local at = now()
if state[3] and state[3] ~= id and (tonumber(state[4]) or 0) > at then return {'wait'} end
redis.call('HSET', guard, 'l', id, 'x', string.format('%d', at + length))
keep(2 * length)
return {'lease', (state[1] or state[2]) and 1 or 0}`

	// ARGV is the lease's id, the value and its ttl. What Redis may refuse for want of memory comes first, before anything was changed.
	fillSource = prelude + `
local state = redis.pcall('HMGET', guard, 'l', 'x')
local fault = failed(state)
if fault then return fault end
if state[1] ~= ARGV[1] or (tonumber(state[2]) or 0) <= now() then return {'refused'} end
local found = redis.call('TYPE', key).ok
if found ~= 'none' and found ~= 'string' then return {'foreign'} end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
redis.call('HDEL', guard, 'l', 'x')
return {'filled'}`

	// ARGV is the lease's id.
	releaseSource = prelude + `
local id = redis.pcall('HGET', guard, 'l')
if id == ARGV[1] then redis.call('HDEL', guard, 'l', 'x') end
return {'released'}`

	// ARGV is the guard's ttl. It is safe at any time, by anyone, any number of times. The moment never moves back. A guard of a foreign type
	// is left alone, for the coordinator refuses such a key anyway.
	invalidateSource = prelude + `
redis.call('UNLINK', key)
local before = redis.pcall('HGET', guard, 'b')
if type(before) == 'table' then return failed(before) end
redis.call('HSET', guard, 'b', string.format('%d', math.max(now(), tonumber(before or 0) or 0)))
redis.call('HDEL', guard, 'l', 'x')
keep(tonumber(ARGV[1]))
return {'invalidated'}`
)

// Tables, as in script.go.
var (
	lease      = redis.NewScript(leaseSource)
	fill       = redis.NewScript(fillSource)
	release    = redis.NewScript(releaseSource)
	invalidate = redis.NewScript(invalidateSource)
)

// The words of the answers.
const (
	wordHit         = "hit"
	wordBehind      = "behind"
	wordWait        = "wait"
	wordLease       = "lease"
	wordFilled      = "filled"
	wordRefused     = "refused"
	wordReleased    = "released"
	wordInvalidated = "invalidated"
	wordForeign     = "foreign"
)
