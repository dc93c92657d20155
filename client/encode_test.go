package client

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/quiescehq/quiesce/api"
)

func FuzzEncoding(f *testing.F) {
	f.Add("s", "owner", "name", "value", uint64(1), uint64(0), uint8(1), true)
	f.Add("", "", "\"\\\x00\x7f<&>ü\u2028", "\xff", uint64(1<<53), uint64(7), uint8(3), false)
	f.Fuzz(func(t *testing.T, session, owner, name, value string, a, b uint64, n uint8, reentrant bool) {
		acquire := api.AcquireLocks{Session: session, Owner: owner, WaitMs: a, ClaimMs: b, Reentrant: reentrant, LockDelayMs: b, Value: value, Ticket: b}
		release := api.ReleaseLocks{Session: session, Locks: []api.Grant{}}
		acquired := api.Acquired{LeaseRemainingMs: b, Ticket: a}
		for range n % 4 {
			acquire.Locks = append(acquire.Locks, api.LockWanted{Name: name, Mode: owner, Permits: a, Limit: b})
			release.Locks = append(release.Locks, api.Grant{Name: name, Token: a, Count: b})
			acquired.Grants = append(acquired.Grants, api.Grant{Name: name, Token: a, Count: b})
		}
		if reentrant {
			acquired.Position, acquired.Deadlock = 3, []api.WaitFor{{Ticket: a, Session: session, Name: name}}
		}
		same(t, appendAcquire(nil, &acquire), &acquire, new(api.AcquireLocks))
		same(t, appendRelease(nil, &release), &release, new(api.ReleaseLocks))
		text, _ := json.Marshal(acquired)
		var got, want api.Acquired
		if err := readAcquired(text, &got); err != nil || json.Unmarshal(text, &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s was read as %+v, %v", text, got, err)
		}
	})
}

// same checks that a text means what the standard library would have written.
func same[T any](t *testing.T, text []byte, value, into *T) {
	t.Helper()
	standard, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	want := new(T)
	if err := json.Unmarshal(standard, want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil || !reflect.DeepEqual(into, want) {
		t.Errorf("wrote %s, want %s: %v", text, standard, err)
	}
}
