package rediscache

import (
	"crypto/sha1"
	"encoding/hex"
)

// script is a Lua program and the digest that Redis knows it by.
type script struct {
	source string
	sha    string
}

func newScript(source string) script {
	digest := sha1.Sum([]byte(source)) // Redis' choice of a name; nothing secret depends on it
	return script{source: source, sha: hex.EncodeToString(digest[:])}
}

// applySource writes any number of keys. KEYS is data, guard, data, guard, …; ARGV is begin, deadline, notBefore, guard TTL (all in
// milliseconds), then for each key: token, op, ttl, the number of values, the number of removed fields, the values, the removed fields.
//
// Tokens are compared as decimal text, first by length: Lua's numbers are doubles and lose integers above 2^53. A key whose guard or data
// is of a foreign type answers -4 by itself, because an error raised here would leave the keys after it undone and those before it done.
// The keys' own writes start with one that Redis refuses when it is out of memory or not writable, before anything was changed; only a
// removal passes in spite of missing memory, which is what one wants of it.
const applySource = `
local call = redis.call
local begin, deadline, notBefore, guardTTL = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = now > deadline or now < notBefore

local function olderOrSame(token, current)
  return current and (#current > #token or (#current == #token and current >= token))
end

local function expire(key, ttl)
  if ttl == '0' then call('PERSIST', key) else call('PEXPIRE', key, ttl) end
end

local function isOrMissing(key, wanted)
  local found = call('TYPE', key).ok
  return found == 'none' or found == wanted
end

local ops = {}

function ops.set(key, ttl, first)
  if not isOrMissing(key, 'string') then return false end
  if ttl == '0' then call('SET', key, ARGV[first]) else call('SET', key, ARGV[first], 'PX', ttl) end
  return true
end

function ops.hash(key, ttl, first, values, removed)
  if not isOrMissing(key, 'hash') then return false end
  if values > 0 then call('HSET', key, unpack(ARGV, first, first + values - 1)) end
  if removed > 0 then call('HDEL', key, unpack(ARGV, first + values, first + values + removed - 1)) end
  expire(key, ttl)
  return true
end

function ops.del(key)
  call('UNLINK', key)
  return true
end

local function write(key, guard, token, op, ttl, first, values, removed)
  if late then return -2 end
  local state = redis.pcall('HMGET', guard, 't', 'b', 'l', 'x')
  if state.err then return -4 end
  if state[2] and begin <= tonumber(state[2]) then return -3 end
  if olderOrSame(token, state[1]) then return 0 end
  if not ops[op](key, ttl, first, values, removed) then return -4 end
  call('HSET', guard, 't', token)
  if state[3] or state[4] then call('HDEL', guard, 'l', 'x') end
  call('PEXPIRE', guard, guardTTL)
  return 1
end

local outcomes, at = {}, 5
for i = 1, #KEYS, 2 do
  local values, removed = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  outcomes[#outcomes + 1] = write(KEYS[i], KEYS[i + 1], ARGV[at], ARGV[at + 1], ARGV[at + 2], at + 5, values, removed)
  at = at + 5 + values + removed
end
return outcomes
`

// invalidateSource removes data keys and fences their guards: KEYS as above, ARGV[1] the guard's TTL. It is safe at any time, by anyone,
// any number of times, so it takes no token and no deadline. A guard of a foreign type is left alone: apply refuses such a key anyway. The
// fence never moves back, or a clock set back would open the door to a write that began before it.
const invalidateSource = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcomes = {}
for i = 1, #KEYS, 2 do
  local guard = KEYS[i + 1]
  redis.call('UNLINK', KEYS[i])
  local fence = redis.pcall('HGET', guard, 'b')
  if type(fence) ~= 'table' then
    redis.call('HSET', guard, 'b', string.format('%d', math.max(now, tonumber(fence or 0) or 0)))
    redis.call('HDEL', guard, 'l', 'x')
    redis.call('PEXPIRE', guard, ARGV[1])
  end
  outcomes[#outcomes + 1] = 1
end
return outcomes
`

// The names of the script's operations.
const (
	scriptSet  = "set"
	scriptHash = "hash"
	scriptDel  = "del"
)
