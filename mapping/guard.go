package mapping

import (
	"strconv"
	"strings"
	"sync"
)

const (
	guardPrefixDefault  = "qg:"
	guardPrefixBytesMax = 16
	slots               = 16_384
)

// GuardKey names the guard of a data key: a small hash that holds the last applied token. Data and guard share a Redis Cluster slot, so that one script may touch both.
// Redis finds the slot by what stands between the first { of a key and the first } after it, or by all of the key if that is nothing. Hence three forms:
//
//	order:42        qg:{order:42}        the key is the tag
//	{user:1}:name   qg::{user:1}:name    the key has a tag, and it stays the first one
//	a}b             qg:{4ac}:a}b         the key has braces and no tag: one of the same slot is put before it
//
// No two keys share a guard: the second form alone goes on with a colon; the first ends with its only }, the third does not. And no guard is a data key, for those that begin with the prefix are refused.
func GuardKey(prefix, key string) string {
	open := strings.IndexByte(key, '{')
	if open < 0 && strings.IndexByte(key, '}') < 0 {
		return prefix + "{" + key + "}"
	}
	if open >= 0 && strings.IndexByte(key[open+1:], '}') > 0 {
		return prefix + ":" + key
	}
	return prefix + "{" + slotTags()[crc16(key)%slots] + "}:" + key
}

// slotTags gives a short text of each slot.
var slotTags = sync.OnceValue(func() *[slots]string {
	var tags [slots]string
	for i, left := int64(0), slots; left > 0; i++ {
		tag := strconv.FormatInt(i, 36)
		if slot := crc16(tag) % slots; tags[slot] == "" {
			tags[slot] = tag
			left--
		}
	}
	return &tags
})

// crc16 is CRC-16/XMODEM, by which Redis Cluster spreads its keys.
func crc16(s string) uint16 {
	var crc uint16
	for i := range len(s) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^s[i]]
	}
	return crc
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
