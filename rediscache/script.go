package rediscache

import (
	"crypto/sha1"
	"encoding/hex"

	"github.com/quiescehq/quiesce/mapping"
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
// milliseconds), touch, then for each key: token, op, ttl, the number of values, the number of removed fields, the values, the removed fields.
//
// Tokens are compared as decimal text, first by length: Lua's numbers are doubles and lose integers above 2^53. A key whose guard or data
// is of a foreign type answers -4 by itself, because an error raised here would leave the keys after it undone and those before it done.
// The keys' own writes start with one that Redis refuses when it is out of memory or not writable, before anything was changed; only a
// removal passes in spite of missing memory, which is what one wants of it. That is also why a key of a foreign type, which an op with the
// suffix replaces, is first overwritten by an empty string.
//
// With touch, a write that is superseded renews the guard's TTL. That has the server's answer to WAIT, which may speak of this connection's own
// changes, cover the older change that superseded it.
const applySource = `
local call = redis.call
local begin, deadline, notBefore, guardTTL = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local touch = ARGV[5] == '1'
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = now > deadline or now < notBefore

local function olderOrSame(token, current)
  return current and (#current > #token or (#current == #token and current >= token))
end

local function expire(key, ttl)
  if ttl == '0' then call('PERSIST', key) else call('PEXPIRE', key, ttl) end
end

-- found is the type of a key that may be written as the wanted type, or nil.
local function found(key, wanted, replace)
  local kind = call('TYPE', key).ok
  if kind == 'none' or kind == wanted then return kind end
  return replace and 'foreign' or nil
end

local function clear(key)
  call('SET', key, '')
  call('UNLINK', key)
end

local function put(key, ttl, first)
  if ttl == '0' then call('SET', key, ARGV[first]) else call('SET', key, ARGV[first], 'PX', ttl) end
end

local function fill(key, ttl, first, values, removed)
  if values > 0 then call('HSET', key, unpack(ARGV, first, first + values - 1)) end
  if removed > 0 then call('HDEL', key, unpack(ARGV, first + values, first + values + removed - 1)) end
  expire(key, ttl)
end

local ops = {}

function ops.set(key, replace, ttl, first)
  if not found(key, 'string', replace) then return false end
  put(key, ttl, first)
  return true
end

function ops.set_if_present(key, replace, ttl, first)
  local kind = found(key, 'string', replace)
  if kind and kind ~= 'none' then put(key, ttl, first) end
  return kind
end

function ops.hash(key, replace, ttl, first, values, removed)
  local kind = found(key, 'hash', replace)
  if not kind then return false end
  if kind == 'foreign' then clear(key) end
  fill(key, ttl, first, values, removed)
  return true
end

function ops.hash_if_present(key, replace, ttl, first, values, removed)
  local kind = found(key, 'hash', replace)
  if kind == 'foreign' then clear(key) end
  if kind and kind ~= 'none' then fill(key, ttl, first, values, removed) end
  return kind
end

function ops.del_fields(key, replace, ttl, first, values, removed)
  local kind = found(key, 'hash', replace)
  if kind == 'foreign' then
    call('UNLINK', key)
  elseif kind == 'hash' and removed > 0 then
    call('HDEL', key, unpack(ARGV, first, first + removed - 1))
  end
  return kind
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
  if olderOrSame(token, state[1]) then
    if touch then call('PEXPIRE', guard, guardTTL) end
    return 0
  end
  local replace = string.byte(op, -1) == 33
  if replace then op = string.sub(op, 1, -2) end
  if not ops[op](key, replace, ttl, first, values, removed) then return -4 end
  call('HSET', guard, 't', token)
  if state[3] or state[4] then call('HDEL', guard, 'l', 'x') end
  call('PEXPIRE', guard, guardTTL)
  return 1
end

local outcomes, at = {}, 6
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

// scriptOps are the names of the script's operations.
var scriptOps = [...]string{
	mapping.OpSet:           "set",
	mapping.OpHash:          "hash",
	mapping.OpDel:           "del",
	mapping.OpSetIfPresent:  "set_if_present",
	mapping.OpHashIfPresent: "hash_if_present",
	mapping.OpDelFields:     "del_fields",
}

// scriptReplace goes behind the name of an operation that may overwrite a key of a foreign type.
const scriptReplace = "!"

// scriptOpArgs and scriptReplaceArgs are the operations as arguments, without and with scriptReplace.
var scriptOpArgs, scriptReplaceArgs = func() (plain, replace [len(scriptOps)]any) {
	for op, name := range scriptOps {
		plain[op], replace[op] = name, name+scriptReplace
	}
	return plain, replace
}()
