package rolling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// Life is an instance and its moments, in milliseconds of cluster time since some moment that all lives of a reading share.
type Life struct {
	api.Instance
	At []int64 // of each line of its history
}

var errMoved = errors.New("entries come all the while")

// Lives reads every instance of a service that the cluster still knows. Nothing should change meanwhile: it is tried again until nothing did.
func Lives(c *harness.Cluster, service string) ([]Life, error) {
	through := c.Follower() // the time of a leader goes on
	var err error
	for range 50 {
		var lives []Life
		if lives, err = readLives(c, through, service); err == nil {
			return lives, nil
		}
	}
	return nil, err
}

func readLives(c *harness.Cluster, through *harness.Node, service string) (lives []Life, err error) {
	var all []api.Instance
	for cursor := ""; ; {
		var page api.Instances
		// Linearizable: this brings the follower up to date. What is read of it afterwards is what it has then.
		if err := getOf(c, through, fmt.Sprintf("/v1/instances?service=%s&limit=1000&cursor=%s", service, cursor), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Instances...)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	for _, v := range all {
		life, err := readLife(c, through, v.ID)
		if err != nil {
			return nil, err
		}
		lives = append(lives, life)
	}
	for i := range min(1, len(lives)) {
		again, err := readLife(c, through, lives[i].ID)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(again.At, lives[i].At) {
			return nil, errMoved
		}
	}
	slices.SortFunc(lives, func(a, b Life) int { return int(a.Incarnation) - int(b.Incarnation) })
	return lives, nil
}

func readLife(c *harness.Cluster, through *harness.Node, id string) (life Life, err error) {
	if err := getOf(c, through, "/v1/instances/"+id+"?consistency=stale", &life.Instance); err != nil {
		return life, err
	}
	for _, m := range life.History {
		life.At = append(life.At, -int64(m.AgeMs))
	}
	return life, nil
}

func getOf(c *harness.Cluster, through *harness.Node, path string, into any) error {
	answer, err := c.Send(context.Background(), through, harness.Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	return answer.Into(into)
}

// Waited is how long the instance stood in the queue before its last grant, in milliseconds.
func (l Life) Waited() int64 {
	at, _ := l.grantedAt()
	for i := len(l.History) - 1; i >= 0; i-- {
		if l.History[i].State == api.StateQueued && l.At[i] <= at && (i == 0 || l.History[i-1].State != api.StateQueued) {
			return at - l.At[i]
		}
	}
	return 0
}

// absence is a place of the budget that was taken, from its beginning to before its end.
type absence struct {
	of       string
	why      string
	from, to int64
	grant    uint64 // of a drain
}

const (
	never      = int64(1) << 62
	historyMax = 16 // lines that an instance has at most
)

// Overspent judges by the log: at each grant that was not an overdraft, the one that was granted and all others that were out of service then
// must fit into max_unavailable. It gives what does not, in words, and how many grants it looked at. Instances are expected to come back
// under their names.
func Overspent(lives []Life, s api.Service) (grants int, wrong []string) {
	var all []absence
	for i, life := range lives {
		all = append(all, absences(life, lives[i+1:], s)...)
	}
	for _, life := range lives {
		at, granted := life.grantedAt()
		if !granted || life.Overdraft {
			continue
		}
		grants++
		var others []string
		for _, a := range all {
			earlier := a.from < at || a.from == at && a.grant != 0 && a.grant < life.Grant // in one entry: in the order of the grants
			if a.of != life.ID && earlier && at < a.to {
				others = append(others, a.of[:min(8, len(a.of))]+" "+a.why)
			}
		}
		if len(others)+1 > int(s.MaxUnavailable) {
			wrong = append(wrong, fmt.Sprintf("%s was granted at %d although these were out of service: %v", life.Name, at, others))
		}
	}
	return grants, wrong
}

// grantedAt is when the instance's last drain was granted, if it had to wait for that: one that was not in service takes no place.
func (l Life) grantedAt() (int64, bool) {
	for i := len(l.History) - 1; i > 0; i-- {
		if l.History[i].State == api.StateDraining && l.History[i-1].State == api.StateQueued {
			return l.At[i], l.Grant != 0
		}
	}
	return 0, false
}

// absences are the times in which an instance took up a place, with the time for which its place was kept.
func absences(l Life, later []Life, s api.Service) (out []absence) {
	served := len(l.History) >= historyMax // the line that said so may have made room
	for i, m := range l.History {
		end := never
		if i+1 < len(l.History) {
			end = l.At[i+1]
		}
		a := absence{of: l.ID, why: m.State, from: l.At[i], to: end}
		switch m.State {
		case api.StateReady, api.StateQueued:
			if m.State == api.StateQueued && served {
				continue // it settles on, which the line before says
			}
			served = true
			a.why, a.to = "settling", min(l.outAfter(i), a.from+int64(s.SettleMs))
		case api.StateDraining:
			a.grant = l.Grant
		case api.StateLeft, api.StateLost, api.StateForced:
			a.why = "kept place of " + m.State
			a.to = min(a.from+keptFor(l, m.State, s), readyAfter(l, later))
		case api.StateRegistered:
			continue
		}
		if served && a.from < a.to {
			out = append(out, a)
		}
	}
	return out
}

// outAfter is when the instance went out of service after a line of its history.
func (l Life) outAfter(i int) int64 {
	for ; i < len(l.History); i++ {
		if state := l.History[i].State; state != api.StateReady && state != api.StateQueued {
			return l.At[i]
		}
	}
	return never
}

func keptFor(l Life, state string, s api.Service) int64 {
	switch {
	case l.Intent == api.IntentRemove:
		return 0
	case state == api.StateLeft:
		return int64(s.RestartHoldMs)
	}
	return int64(s.LostHoldMs)
}

// readyAfter is when the next incarnation of the name was ready: from then on it counts by itself.
func readyAfter(l Life, later []Life) int64 {
	for _, next := range later {
		if next.Name != l.Name {
			continue
		}
		for i, m := range next.History {
			if m.State == api.StateReady {
				return next.At[i]
			}
		}
		if len(next.History) >= historyMax {
			return next.At[0] // the line that said so has made room, and the first one never does
		}
	}
	return never
}
