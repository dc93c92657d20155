package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/quiescehq/quiesce/api"
)

var errResults = errors.New("client: the answer to a batch could not be read")

// readResults takes the answer to a batch of n operations apart. It finds where each body begins and ends and leaves the reading of it to
// the operation's caller: decoding the whole here would read everything twice, and cost more than all else that one operation costs.
func readResults(text []byte, n int) ([]api.BatchResult, error) {
	results := make([]api.BatchResult, 0, n)
	err := eachMember(text, func(name string, list []byte) error {
		if name != "results" {
			return nil
		}
		return eachElement(list, func(item []byte) error {
			r, err := readResult(item)
			results = append(results, r)
			return err
		})
	})
	if err == nil && len(results) != n {
		err = fmt.Errorf("%w: %d results for %d operations", errResults, len(results), n)
	}
	return results, err
}

func readResult(text []byte) (r api.BatchResult, err error) {
	err = eachMember(text, func(name string, value []byte) (err error) {
		switch name {
		case "status":
			r.Status, err = strconv.Atoi(string(value))
		case "index":
			r.Index, err = strconv.ParseUint(string(value), 10, 64)
		case "body":
			r.Body = value
		case "problem":
			err = json.Unmarshal(value, &r.Problem)
		}
		return err
	})
	return r, err
}

// eachMember goes through the members of an object. Names with escapes are not those of this API, and are shown as they stand.
func eachMember(text []byte, see func(name string, value []byte) error) error {
	return each(text, '{', '}', func(rest []byte) (int, error) {
		name := valueLen(rest)
		if name < 2 || rest[0] != '"' {
			return 0, errResults
		}
		at := name + space(rest[name:])
		if at == len(rest) || rest[at] != ':' {
			return 0, errResults
		}
		at++
		at += space(rest[at:])
		size := valueLen(rest[at:])
		if size == 0 {
			return 0, errResults
		}
		return at + size, see(string(rest[1:name-1]), rest[at:at+size])
	})
}

// eachElement goes through the elements of an array.
func eachElement(text []byte, see func(value []byte) error) error {
	return each(text, '[', ']', func(rest []byte) (int, error) {
		size := valueLen(rest)
		if size == 0 {
			return 0, errResults
		}
		return size, see(rest[:size])
	})
}

// each goes through what stands between two brackets, separated by commas; one tells how long the next part is.
func each(text []byte, open, end byte, one func(rest []byte) (int, error)) error {
	at := space(text)
	if at == len(text) || text[at] != open {
		return errResults
	}
	for at++; ; at++ {
		at += space(text[at:])
		if at < len(text) && text[at] == end {
			return nil
		}
		size, err := one(text[at:])
		if err != nil {
			return err
		}
		at += size
		at += space(text[at:])
		switch {
		case at == len(text):
			return errResults
		case text[at] == end:
			return nil
		case text[at] != ',':
			return errResults
		}
	}
}

func space(text []byte) int { return len(text) - len(bytes.TrimLeft(text, " \t\r\n")) }

// valueLen is the length of the JSON value that text begins with, 0 if there is none or its end is missing.
func valueLen(text []byte) int {
	depth := 0
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '"':
			size := stringLen(text[at:])
			if size == 0 {
				return 0
			}
			at += size - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth--; depth < 0 {
				return at
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return at
			}
			continue
		default: // a number or a word: its end is what follows it
			if depth == 0 && at+1 < len(text) && !bytes.ContainsRune([]byte(",:]} \t\r\n"), rune(text[at+1])) {
				continue
			}
		}
		if depth == 0 {
			return at + 1
		}
	}
	return 0
}

func stringLen(text []byte) int {
	for at := 1; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return 0
}
