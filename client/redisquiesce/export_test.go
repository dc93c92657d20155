package redisquiesce

// Waiters counts who waits for a load of a key.
func (c *Cache) Waiters(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		return f.waiters
	}
	return 0
}

// CacheGuard names the guard of a key of a Cache.
func CacheGuard(prefix, key string) (string, error) { return guardOf(prefix, key) }
