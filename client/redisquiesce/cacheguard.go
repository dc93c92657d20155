package redisquiesce

import (
	"fmt"
	"strings"
)

// cacheGuard names the guard that the coordinator has for a key of a mapping.
func cacheGuard(prefix, key string) (string, error) {
	if n := len(key); n == 0 || n > KeyBytesMax {
		return "", fmt.Errorf("%w: %d bytes, not 1 to %d", ErrKey, n, KeyBytesMax)
	}
	if strings.ContainsAny(key, "{}") {
		return "", fmt.Errorf("%w: it has a brace", ErrKey)
	}
	return prefix + "{" + key + "}", nil
}
