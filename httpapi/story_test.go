package httpapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
)

var update = flag.Bool("update", false, "write the answers into testdata/story.txt")

var (
	drawnID   = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	wallClock = regexp.MustCompile(`"at":"[0-9T:.Z-]+"`)
	nextSlots = regexp.MustCompile(`"next":\["[^]]+"\]`)
)

// TestAPI_EveryEndpointAnswersAsInTheStory plays testdata/story.txt: `>` lines are requests, `<` lines are the whole answers. Ids that
// the server drew stand as $1, $2, ... in the order in which they were first seen, its wall clock as $now; `!` moves the cluster's clock.
func TestAPI_EveryEndpointAnswersAsInTheStory(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("testdata/story.txt")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	f.apply(fsm.Op{Command: fsm.PutNode{Node: fsm.Node{ID: "n1", Incarnation: "i", HTTPAddr: "127.0.0.1:1", PeerAddr: "127.0.0.1:2",
		Sources: []fsm.Place{{Name: "shop", Identity: "aa"}}, Targets: []fsm.Place{{Name: "main", Identity: "bb"}}}}})
	got := (&story{e: newEdgeOver(t, f)}).play(string(script))
	if *update {
		if err := os.WriteFile("testdata/story.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(script), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, line, strings.Join(want[i:min(i+1, len(want))], ""))
		}
	}
}

type story struct {
	e   *edge
	ids []string
	out strings.Builder
}

func (s *story) play(script string) string {
	var request []string
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "> "):
			request = append(request, strings.TrimPrefix(line, "> "))
			fmt.Fprintln(&s.out, line)
		case strings.HasPrefix(line, "< "):
		case strings.HasPrefix(line, "! "):
			var ms uint64
			fmt.Sscan(strings.TrimPrefix(line, "! advance "), &ms)
			s.e.rep.advance(ms)
			fmt.Fprintln(&s.out, line)
		default:
			s.send(request)
			request = nil
			fmt.Fprintln(&s.out, line)
		}
	}
	s.send(request)
	return s.out.String()
}

func (s *story) send(request []string) {
	if len(request) == 0 {
		return
	}
	method, path, _ := strings.Cut(s.known(request[0]), " ")
	body := ""
	var header []string
	for _, line := range request[1:] {
		if name, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "{") {
			header = append(header, name, value)
			continue
		}
		body += s.known(line)
	}
	r := s.e.do(method, path, body, header...)
	status := fmt.Sprintf("< %d", r.status)
	for _, name := range []string{"Etag", "Quiesce-Index", "Retry-After"} {
		if v := r.header.Get(name); v != "" {
			status += " " + name + "=" + v
		}
	}
	fmt.Fprintln(&s.out, status)
	if len(r.body) > 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, r.body); err != nil {
			compact.WriteString("not JSON")
		}
		fmt.Fprintln(&s.out, "< "+s.masked(compact.String()))
	}
}

func (s *story) known(text string) string {
	for i := len(s.ids) - 1; i >= 0; i-- {
		text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i+1), s.ids[i])
	}
	return text
}

func (s *story) masked(text string) string {
	text = wallClock.ReplaceAllString(text, `"at":"$$now"`)
	text = nextSlots.ReplaceAllString(text, `"next":["$$soon"]`)
	return drawnID.ReplaceAllStringFunc(text, func(id string) string {
		if strings.Trim(id, "0") == "" {
			return id // an empty digest
		}
		for i, known := range s.ids {
			if known == id {
				return fmt.Sprintf("$%d", i+1)
			}
		}
		s.ids = append(s.ids, id)
		return fmt.Sprintf("$%d", len(s.ids))
	})
}
