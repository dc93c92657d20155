package client

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/quiescehq/quiesce/api"
)

// The two bodies that make up nearly all operations are written, and the answer to the one that has an answer read, by hand. The standard
// library's way goes so deep that the stacks of the callers, small goroutines mostly, grow for it again after each garbage collection:
// half of what a lock cost this side.

func appendAcquire(to []byte, a *api.AcquireLocks) []byte {
	to = appendString(append(to, `{"session":`...), a.Session)
	to = textMember(to, `,"owner":`, a.Owner)
	for i, w := range a.Locks {
		if i == 0 {
			to = append(to, `,"locks":[`...)
		} else {
			to = append(to, ',')
		}
		to = appendString(append(to, `{"name":`...), w.Name)
		to = textMember(to, `,"mode":`, w.Mode)
		to = numberMember(to, `,"permits":`, w.Permits)
		to = append(numberMember(to, `,"limit":`, w.Limit), '}')
	}
	if len(a.Locks) > 0 {
		to = append(to, ']')
	}
	to = numberMember(to, `,"wait_ms":`, a.WaitMs)
	to = numberMember(to, `,"claim_ms":`, a.ClaimMs)
	if a.Reentrant {
		to = append(to, `,"reentrant":true`...)
	}
	to = numberMember(to, `,"lock_delay_ms":`, a.LockDelayMs)
	to = textMember(to, `,"value":`, a.Value)
	return append(numberMember(to, `,"ticket":`, a.Ticket), '}')
}

func appendRelease(to []byte, r *api.ReleaseLocks) []byte {
	to = append(appendString(append(to, `{"session":`...), r.Session), `,"locks":[`...)
	for i, g := range r.Locks {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendString(append(to, `{"name":`...), g.Name)
		to = strconv.AppendUint(append(to, `,"token":`...), g.Token, 10)
		to = append(numberMember(to, `,"count":`, g.Count), '}')
	}
	return append(to, "]}"...)
}

func textMember(to []byte, member, value string) []byte {
	if value == "" {
		return to
	}
	return appendString(append(to, member...), value)
}

func numberMember(to []byte, member string, value uint64) []byte {
	if value == 0 {
		return to
	}
	return strconv.AppendUint(append(to, member...), value, 10)
}

func appendString(to []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(to, quoted...)
		}
	}
	return append(append(append(to, '"'), s...), '"')
}

// readAcquired reads the plain answer: grants, or a place in the queue. Everything else goes to the standard library.
func readAcquired(text []byte, into *api.Acquired) error {
	err := eachMember(text, func(name string, value []byte) (err error) {
		switch name {
		case "grants":
			return eachElement(value, func(item []byte) error {
				g, err := readGrant(item)
				into.Grants = append(into.Grants, g)
				return err
			})
		case "ticket":
			into.Ticket, err = strconv.ParseUint(string(value), 10, 64)
		case "lease_remaining_ms":
			into.LeaseRemainingMs, err = strconv.ParseUint(string(value), 10, 64)
		default:
			err = errResults
		}
		return err
	})
	if err == nil {
		return nil
	}
	*into = api.Acquired{}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("client: read the answer to %s: %w", api.OpAcquire, err)
	}
	return nil
}

func readGrant(text []byte) (g api.Grant, err error) {
	err = eachMember(text, func(name string, value []byte) (err error) {
		switch name {
		case "name":
			g.Name, err = readString(value)
		case "token":
			g.Token, err = strconv.ParseUint(string(value), 10, 64)
		case "count":
			g.Count, err = strconv.ParseUint(string(value), 10, 64)
		}
		return err
	})
	return g, err
}

func readString(text []byte) (s string, err error) {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			err = json.Unmarshal(text, &s)
			return s, err
		}
	}
	if len(text) < 2 || text[0] != '"' {
		return "", errResults
	}
	return string(text[1 : len(text)-1]), nil
}
