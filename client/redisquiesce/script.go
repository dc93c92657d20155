package redisquiesce

import "github.com/redis/go-redis/v9"

// The scripts take the key and its guard, then the token, the guard's ttl in milliseconds, and arguments of their own. Tokens are below
// 2^53, so that Lua's numbers hold them exactly.
//
// The guard is written before the key. Redis undoes nothing when a script fails half-way: then the guard is ahead, which refuses only
// whoever is older. All but one begin with a write that Redis refuses when its memory is full, before anything was changed.
const (
	compare = `
local key, guard, token, guardTTL = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local seen = redis.pcall('GET', guard)
if type(seen) == 'table' then
  if string.find(seen.err, 'WRONGTYPE', 1, true) then return {'foreign'} end
  return seen
end
if seen and not (#seen <= 16 and string.find(seen, '^%d+$')) then return {'foreign'} end
if seen and tonumber(seen) > tonumber(token) then return {'fenced', seen} end

local function advance()
  if guardTTL > 0 then redis.call('SET', guard, token, 'PX', guardTTL) else redis.call('SET', guard, token) end
end
`
	advanceSource = compare + `
advance()
return {'written', 0}`

	setSource = compare + `
advance()
if ARGV[4] == '0' then redis.call('SET', key, ARGV[3]) else redis.call('SET', key, ARGV[3], 'PX', ARGV[4]) end
return {'written', 0}`

	hsetSource = compare + `
advance()
redis.call('HSET', key, unpack(ARGV, 3))
return {'written', 0}`

	// Here the key goes first: a removal passes though memory is full, and once a script has written, so does the rest of it.
	delSource = compare + `
local removed = redis.call('UNLINK', key)
advance()
return {'written', removed}`
)

// Tables: what go-redis sends by digest, and again as text to a server that does not know it.
var (
	advance = redis.NewScript(advanceSource)
	set     = redis.NewScript(setSource)
	hset    = redis.NewScript(hsetSource)
	del     = redis.NewScript(delSource)
)
