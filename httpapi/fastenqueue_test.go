package httpapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func enqueueBodies() []string {
	event := `{"mapping":"m","pk":["1"]}`
	return []string{
		`{"events":[` + event + `]}`, `{"events":[{"mapping":"m","pk":["1"]},{"mapping":"m","pk":["2"]},{"mapping":"n","pk":[3]},{"mapping":"m","pk":["1"]}]}`,
		"{ \"events\" :\n[ { \"pk\" : [ \"7\" ] , \"mapping\" : \"m\" } ] }", `{"events":[{"mapping":"m","pk":["1"],"old_key":["2"]}]}`, `{"events":[{"mapping":"m","new_key":["5"],"old_key":["6"]}]}`,
		`{"events":[{"mapping":"m","pk":["\u0031"]}]}`, `{"events":[{"mapping":"m","pk":["é"]}]}`, `{"events":[{"mapping":"\u006d","pk":["1"]}]}`, `{"events":[{"mapping":"m","pk":[null]}]}`,
		`{"events":[{"mapping":"m","pk":[-3]}]}`, `{"events":[{"mapping":"m","pk":[1.5]}]}`, `{"events":[{"mapping":"m","pk":[01]}]}`, `{"events":[{"mapping":"m","pk":[9007199254740993]}]}`,
		`{"events":[{"mapping":"m","pk":["x"]}]}`, `{"events":[{"mapping":"m","pk":[]}]}`, `{"events":[{"mapping":"m"}]}`, `{"events":[{"pk":["1"]}]}`, `{"events":[{"mapping":"","pk":["1"]}]}`,
		`{"events":[{"mapping":"M","pk":["1"]}]}`, `{"events":[{"mapping":"nobody","pk":["1"]}]}`, `{"events":[` + event + `,{"mapping":"nobody","pk":["1"]}]}`, `{"events":[]}`, `{"events":null}`, `{}`,
		`{"events":[` + event + `],"events":[]}`, `{"events":[{"mapping":"m","mapping":"n","pk":["1"]}]}`, `{"events":[{"mapping":"m","pk":["1"],"color":1}]}`, `{"events":[` + event + `,]}`,
		`{"events":[{"mapping":"m","pk":["1",]}]}`, `{"events":[{"mapping":"m","pk":[["1"]]}]}`, `{"events":[{"mapping":"m","pk":"1"}]}`, `{"events":[` + event + `]}{}`, `{"Events":[` + event + `]}`,
		`{"events":[{"mapping":"m","pk":[` + strings.Repeat(`"1",`, api.PKPartsMax) + `"1"]}]}`, `{"events":[{"mapping":"m","pk":["` + strings.Repeat("1", 600) + `"]}]}`,
		`{"events":[` + strings.Repeat(event+",", api.EventsMax-1) + event + `]}`, `{"events":[` + strings.Repeat(event+",", api.EventsMax) + event + `]}`,
	}
}

func TestFastEnqueue_AnswersWhatTheGeneralWayAnswers(t *testing.T) {
	t.Parallel()
	fast, general, _ := twins(t)
	for _, e := range []*edge{fast, general} {
		for _, name := range []string{"m", "n"} {
			e.rep.apply(fsm.Op{Command: fsm.PutMapping{Name: name, Source: "main", Target: "cache", Table: "t", Spec: []byte(`{"table":"t"}`), Columns: []byte("[]")}})
		}
	}
	for round := range 2 { // the second meets what the first left
		for i, body := range enqueueBodies() {
			const path = "/v1/outbox/events"
			sameOnBothWays(t, fast, general, path, body)
			sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyKey, fmt.Sprintf("c/%d", i+1), api.HeaderIdempotencyAcked, fmt.Sprint(i+1-min(i, 3*round)))
			sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyKey, "free")
			sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyAcked, "x")
		}
	}
}

// A reader that always gave up would pass the test above.
func TestFastEnqueue_TakesThePlainRequests(t *testing.T) {
	t.Parallel()
	for _, body := range enqueueBodies()[:5] {
		l := lean{b: []byte(body)}
		if l.enqueue(); !l.end() {
			t.Errorf("%s is not read the fast way", body)
		}
	}
}

// FuzzFastEnqueue: whatever the fast way accepts, encoding/json reads alike.
func FuzzFastEnqueue(f *testing.F) {
	for _, body := range enqueueBodies() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l := lean{b: body}
		got := l.enqueue()
		if !l.end() || len(got.Events) == 0 {
			return
		}
		var want api.EnqueueEvents
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q was accepted: %v", body, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q was read as %+v, want %+v", body, got, want)
		}
	})
}
