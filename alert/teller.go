package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// HeaderSignature carries the HMAC-SHA256 of the body under the hook's secret, as sha256=HEX.
const HeaderSignature = "Quiesce-Signature"

// teller tells one hook. What it looks at is always the newest: it holds one look, and no queue.
type teller struct {
	task *Task
	hook Hook
	look chan map[subject]Notice // holds the newest
	told map[subject]telling
	said bool // that the hook does not answer
}

// telling is what the hook has heard of a condition.
type telling struct {
	Notice
	at time.Time
}

func newTeller(t *Task, h Hook) *teller {
	return &teller{task: t, hook: h, look: make(chan map[subject]Notice, 1), told: map[subject]telling{}}
}

// hear takes a look in the place of one that was not dealt with yet. Only one goroutine calls it.
func (t *teller) hear(now map[subject]Notice) {
	select {
	case <-t.look:
	default:
	}
	t.look <- now
}

func (t *teller) run(ctx context.Context) {
	wait := t.task.cfg.RetryMin
	for {
		select {
		case now := <-t.look:
			if t.tell(ctx, t.news(now)) {
				wait = t.task.cfg.RetryMin
				continue
			}
		case <-ctx.Done():
			return
		}
		if !pause(ctx, rand.N(wait)+wait/2) {
			return
		}
		wait = min(2*wait, t.task.cfg.RetryMax)
	}
}

// news is what the hook has not heard yet.
func (t *teller) news(now map[subject]Notice) []Notice {
	var out []Notice
	for s, n := range now {
		had, known := t.told[s]
		switch {
		case !t.hook.wants(s.kind) || s.kind == Lag && n.LagMs < uint64(t.hook.lag().Milliseconds()):
			delete(now, s)
		case !known || grew(had.Notice, n) && time.Since(had.at) >= t.task.cfg.Repeat:
			out = append(out, n)
		}
	}
	for s, had := range t.told {
		if _, holds := now[s]; !holds {
			over := had.Notice
			over.State = Resolved
			out = append(out, over)
		}
	}
	return out
}

// tell answers false as soon as one was not heard: the others wait for the next look.
func (t *teller) tell(ctx context.Context, news []Notice) bool {
	for _, n := range news {
		n.Cluster, n.Node, n.At = t.task.log.ClusterID(), t.task.node, time.Now().UTC()
		if err := t.post(ctx, n); err != nil {
			if !t.said && ctx.Err() == nil {
				t.said = true
				t.task.logger.Warn("a webhook was not heard, it is told again", "hook", t.hook.String(), "kind", n.Kind, "mapping", n.Mapping, "reason", err)
			}
			return false
		}
		t.said = false
		if n.State == Resolved {
			delete(t.told, subject{n.Kind, n.Mapping})
		} else {
			t.told[subject{n.Kind, n.Mapping}] = telling{n, time.Now()}
		}
	}
	return true
}

// post gives errors that hold no part of the address.
func (t *teller) post(ctx context.Context, n Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.task.cfg.AnswerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.hook.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: address", ErrConfig)
	}
	request.Header.Set("Content-Type", "application/json")
	if t.hook.Secret != "" {
		mac := hmac.New(sha256.New, []byte(t.hook.Secret))
		mac.Write(body)
		request.Header.Set(HeaderSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	answer, err := t.task.client.Do(request)
	if err != nil {
		return errUnheard
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, noticeMax) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%w: status %d", errUnheard, answer.StatusCode)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
