package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// exchange is one request of a story and what must come of it. In path, body and header {x} stands for what an earlier answer had as x.
type exchange struct {
	ask    string            // "POST /v1/sessions"
	body   string            // JSON, or none
	header string            // "Name: value", or none
	want   string            // "200", or with its code "409 lock_held"
	keep   map[string]string // name -> where it stands in the answer, such as "grants.0.token"
	until  string            // "locks.0.waiting=1": asked again until the answer has it
	begin  string            // the request is sent under this name, and its answer awaited later: ask, body and want belong to the answer
	await  string            // waits for the answer to the request that was begun under this name
}

// The coordinator for tests must answer as a cluster does, or tests of applications prove nothing. The cluster is asked through a follower.
func TestConformance_CoordinatorForTestsAnswersAsAClusterDoes(t *testing.T) {
	cluster := harness.Start(t, harness.Options{})
	real := "http://" + cluster.Follower().HTTPAddr
	_, fake := quiescetest.Start(t)
	for _, stories := range []map[string][]exchange{lockStories, actStories, serviceStories} {
		for name, story := range stories {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				want, got := tell(t, real, name, story), tell(t, fake, name, story)
				for i := range want {
					if want[i] != got[i] {
						t.Errorf("exchange %d, %s:\ncluster: %s\nfake:    %s", i, story[i].ask+story[i].await, want[i], got[i])
					}
				}
			})
		}
	}
}

// The negative control: a comparison that overlooks a differing answer would hold anything.
func TestConformance_ComparisonSeesWhatDiffers(t *testing.T) {
	t.Parallel()
	first := heard{status: 200, header: http.Header{}, body: []byte(`{"token":7,"other":8,"left_ms":3,"name":"a"}`)}
	for _, other := range []string{
		`{"token":7,"other":7,"left_ms":3,"name":"a"}`, // one thing, not two
		`{"token":7,"other":8,"left_ms":0,"name":"a"}`,
		`{"token":7,"other":8,"left_ms":3,"name":"b"}`,
		`{"token":7,"other":8,"name":"a"}`,
		`{"token":7,"other":8,"left_ms":3,"name":"a","more":true}`,
	} {
		second := heard{status: 200, header: http.Header{}, body: []byte(other)}
		if newTeller(t, "", "").shape(first) == newTeller(t, "", "").shape(second) {
			t.Errorf("%s was not told from %s", other, first.body)
		}
	}
	same := heard{status: 200, header: http.Header{}, body: []byte(`{"token":70,"other":80,"left_ms":4,"name":"a"}`)}
	if newTeller(t, "", "").shape(first) != newTeller(t, "", "").shape(same) {
		t.Error("other tokens and times count as a difference")
	}
}

// tell runs a story and gives the shapes of the answers.
func tell(t *testing.T, base, name string, story []exchange) []string {
	t.Helper()
	k := newTeller(t, base, name)
	defer k.client.CloseIdleConnections()
	shapes := make([]string, 0, len(story))
	for i, x := range story {
		h, err := k.step(x)
		if err != nil {
			t.Fatalf("%s: exchange %d, %s: %v", base, i, x.ask+x.await, err)
		}
		if x.begin != "" {
			shapes = append(shapes, "begun")
			continue
		}
		if got := h.outcome(); got != x.want {
			t.Fatalf("%s: exchange %d, %s %s: %s, want %s\n%s", base, i, x.ask+x.await, k.fill(x.body), got, x.want, h.body)
		}
		shapes = append(shapes, k.shape(h))
	}
	return shapes
}

// teller is one run of a story against one address.
type teller struct {
	t       *testing.T
	base    string
	client  *http.Client
	kept    map[string]string
	begun   map[string]chan heard
	numbers map[string]string // what stands for a token, by its value
}

func newTeller(t *testing.T, base, name string) *teller {
	return &teller{t: t, base: base, client: &http.Client{Transport: &http.Transport{}}, kept: map[string]string{"story": name},
		begun: map[string]chan heard{}, numbers: map[string]string{}}
}

// heard is an answer.
type heard struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (h heard) outcome() string {
	out := strconv.Itoa(h.status)
	var p api.Problem
	if h.status >= 300 && json.Unmarshal(h.body, &p) == nil {
		out += " " + string(p.Code)
	}
	return out
}

const (
	conformanceAsk  = 30 * time.Second
	conformancePoll = 10 * time.Millisecond
)

var errNeverSeen = errors.New("the answer never had it")

func (k *teller) step(x exchange) (heard, error) {
	switch {
	case x.await != "":
		h := <-k.begun[x.await]
		return h, errors.Join(h.err, k.remember(x, h))
	case x.begin != "":
		answered := make(chan heard, 1)
		k.begun[x.begin] = answered
		request, err := k.request(x)
		if err == nil {
			go func() { answered <- k.send(request) }() // the story awaits it; at the latest its context ends with the test
		}
		return heard{}, err
	case x.until != "":
		return k.poll(x)
	}
	return k.once(x)
}

func (k *teller) once(x exchange) (heard, error) {
	request, err := k.request(x)
	if err != nil {
		return heard{}, err
	}
	h := k.send(request)
	return h, errors.Join(h.err, k.remember(x, h))
}

func (k *teller) poll(x exchange) (heard, error) {
	path, value, _ := strings.Cut(x.until, "=")
	deadline := time.NewTimer(conformanceAsk)
	defer deadline.Stop()
	ticker := time.NewTicker(conformancePoll)
	defer ticker.Stop()
	for {
		h, err := k.once(x)
		if got, found := at(h.body, path); err != nil || found && got == value {
			return h, err
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return h, fmt.Errorf("%w: %s in %s", errNeverSeen, x.until, h.body)
		}
	}
}

func (k *teller) request(x exchange) (*http.Request, error) {
	method, path, _ := strings.Cut(k.fill(x.ask), " ")
	r, err := http.NewRequestWithContext(k.t.Context(), method, k.base+path, bytes.NewReader([]byte(k.fill(x.body))))
	if err != nil {
		return nil, err
	}
	if x.body != "" {
		r.Header.Set("Content-Type", api.ContentJSON)
	}
	if name, value, found := strings.Cut(k.fill(x.header), ": "); found {
		r.Header.Set(name, value)
	}
	return r, nil
}

func (k *teller) send(r *http.Request) heard {
	ctx, cancel := context.WithTimeout(r.Context(), conformanceAsk)
	defer cancel()
	response, err := k.client.Do(r.WithContext(ctx))
	if err != nil {
		return heard{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return heard{response.StatusCode, response.Header, body, err}
}

func (k *teller) fill(text string) string {
	for name, value := range k.kept {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

func (k *teller) remember(x exchange, h heard) error {
	for name, path := range x.keep {
		value, found := at(h.body, path)
		if !found {
			return fmt.Errorf("no %s in %d %s", path, h.status, h.body)
		}
		k.kept[name] = value
	}
	return nil
}

// at reads one value out of JSON.
func at(body []byte, path string) (string, bool) {
	var v any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return "", false
	}
	for _, part := range strings.Split(path, ".") {
		switch have := v.(type) {
		case map[string]any:
			v = have[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(have) {
				return "", false
			}
			v = have[i]
		}
		if v == nil {
			return "", false
		}
	}
	return fmt.Sprint(v), true
}

// shape is an answer without what may differ: ids, tokens and times become marks that are equal where the values are.
func (k *teller) shape(h heard) string {
	text := strconv.Itoa(h.status)
	for _, name := range []string{"Content-Type", api.HeaderRetryAfter, api.HeaderFeatureLevel} {
		text += " " + h.header.Get(name)
	}
	text += fmt.Sprintf(" index %t etag %t ", h.header.Get(api.HeaderIndex) != "", h.header.Get(api.HeaderETag) != "")
	var v any
	decoder := json.NewDecoder(bytes.NewReader(h.body))
	decoder.UseNumber()
	if len(h.body) == 0 || decoder.Decode(&v) != nil {
		return text + k.plain(string(h.body))
	}
	encoded, err := json.Marshal(k.level("", v)) // keys in order
	if err != nil {
		k.t.Fatal(err)
	}
	return text + string(encoded)
}

// Durations: those that somebody asked for are the same everywhere, what has passed since may be nothing, what is left may not.
var (
	exactMs  = []string{"ttl_ms", "ends_within_ms", "retry_after_ms"}
	passedMs = []string{"held_ms", "age_ms"}
)

func (k *teller) level(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) { // marks are given in the order of the visit
			v[name] = k.level(name, v[name])
		}
	case []any:
		if key == "adoption" {
			return "what a leader's tasks did so far" // those are no part of the edge
		}
		for i, inner := range v {
			v[i] = k.level(key, inner)
		}
	case string:
		if key == "at" {
			return "a time"
		}
		return k.plain(v)
	case json.Number:
		switch {
		case key == "index" || key == "applied_index":
			return "a revision"
		case slices.Contains(passedMs, key):
			return "some time"
		case strings.HasSuffix(key, "_ms") && !slices.Contains(exactMs, key):
			return "some time, none: " + strconv.FormatBool(v == "0")
		case slices.Contains([]string{"token", "ticket", "incarnation", "grant", "revision", "other"}, key):
			return k.number(v.String())
		}
	}
	return v
}

// number marks a token by the order in which the values came.
func (k *teller) number(value string) string {
	if k.numbers[value] == "" {
		k.numbers[value] = fmt.Sprintf("#%d", len(k.numbers)+1)
	}
	return k.numbers[value]
}

var drawnID = regexp.MustCompile(`[0-9a-f]{32}`)

func (k *teller) plain(text string) string {
	return drawnID.ReplaceAllStringFunc(text, func(id string) string { return "id" + k.number(id) })
}
