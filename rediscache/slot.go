package rediscache

import "strings"

// slotCount is the number of slots of a Redis Cluster.
const slotCount = 16384

// slotOf is the slot of a key: the checksum of what stands between its first { and the first } after it, of all of it if that is nothing.
func slotOf(key string) uint16 {
	if _, rest, opened := strings.Cut(key, "{"); opened {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	var sum uint16
	for i := range len(key) {
		sum = sum<<8 ^ checksums[byte(sum>>8)^key[i]]
	}
	return sum % slotCount
}

// checksums are those of single bytes by CRC16/XMODEM, which is Redis' choice.
var checksums = func() (table [256]uint16) {
	for i := range table {
		sum := uint16(i) << 8
		for range 8 {
			carry := sum&0x8000 != 0
			if sum <<= 1; carry {
				sum ^= 0x1021
			}
		}
		table[i] = sum
	}
	return table
}()
