package outbox

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func testPlace() *place {
	return newPlace(Default(), placeName{kind: placeTarget, name: "cache"}, slog.New(slog.DiscardHandler))
}

func admitted(t *testing.T, p *place) ticket {
	t.Helper()
	permit, ok := p.admit()
	if !ok {
		t.Fatal("not admitted")
	}
	return permit
}

var faultDown = &fault{blame: blameTarget, class: ClassTargetDown, cause: errors.New("staged")}

func TestBreaker_OpensProbesOnceAndRampsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg, p := Default(), testPlace()
		for range cfg.BreakerFailures {
			admitted(t, p).fail(faultDown)
		}
		rows, wait := p.room()
		if rows != 0 || wait <= 0 || wait > cfg.BreakerOpen+time.Millisecond {
			t.Fatalf("an open breaker has room for %d rows in %v", rows, wait)
		}
		if _, ok := p.admit(); ok {
			t.Fatal("an open breaker admits")
		}
		<-time.After(wait)
		if rows, _ := p.room(); rows != cfg.ProbeRows {
			t.Fatalf("the probe may have %d rows, want %d", rows, cfg.ProbeRows)
		}
		probe := admitted(t, p)
		if rows, wait := p.room(); rows != 0 || wait != 0 {
			t.Errorf("beside a probe there is room for %d rows in %v", rows, wait)
		}
		probe.succeed()
		for want := 2 * cfg.ProbeRows; want < cfg.BatchRowsMax; want *= 2 {
			if rows, _ := p.room(); rows != want {
				t.Fatalf("room for %d rows, want %d", rows, want)
			}
			admitted(t, p).succeed()
		}
		if rows, _ := p.room(); rows != cfg.BatchRowsMax {
			t.Errorf("the ramp ends at %d rows, want %d", rows, cfg.BatchRowsMax)
		}
		if s := p.stats(); s.State != "closed" || s.LastClass != ClassTargetDown {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestBreaker_FailedProbeOpensAgainAndAnAbandonedOneDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testPlace()
		for range Default().BreakerFailures {
			admitted(t, p).fail(faultDown)
		}
		_, wait := p.room()
		<-time.After(wait)
		admitted(t, p).skip()
		admitted(t, p).fail(faultDown)
		if rows, wait := p.room(); rows != 0 || wait == 0 {
			t.Errorf("after a failed probe there is room for %d rows", rows)
		}
	})
}

func TestBreaker_SuccessBetweenFailuresKeepsItClosed(t *testing.T) {
	t.Parallel()
	p := testPlace()
	for range 10 * Default().BreakerFailures {
		admitted(t, p).fail(faultDown)
		admitted(t, p).succeed()
	}
	if state := p.stats().State; state != "closed" {
		t.Errorf("the breaker is %s", state)
	}
}
