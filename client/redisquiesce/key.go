package redisquiesce

import (
	"fmt"
	"strings"
)

const guardPrefix = "qf:"

// GuardKey names the guard of a key. Redis Cluster finds a key's slot by what stands between its first { and the first } after it, or by
// all of it if that is nothing; the guard repeats either. No two keys share a guard: one form goes on with a brace, the other with a colon.
func GuardKey(key string) (string, error) {
	return guardOf(guardPrefix, key)
}

func guardOf(prefix, key string) (string, error) {
	if n := len(key); n == 0 || n > KeyBytesMax {
		return "", fmt.Errorf("%w: %d bytes, not 1 to %d", ErrKey, n, KeyBytesMax)
	}
	_, rest, opened := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(rest, "}")
	switch {
	case opened && closed && tag != "":
		return prefix + ":" + key, nil
	case strings.ContainsAny(key, "{}"):
		return "", fmt.Errorf("%w: a brace that belongs to no hash tag", ErrKey)
	}
	return prefix + "{" + key + "}", nil
}
