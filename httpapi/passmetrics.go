package httpapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

var (
	descPasses      = prometheus.NewDesc("quiesce_passes", "Passes that are not over, by state.", []string{"state"}, nil)
	descThrottled   = prometheus.NewDesc("quiesce_pass_throttled", "1 while the pass of a mapping stands still to spare the stores. Only on the node that leads.", []string{"mapping"}, nil)
	descFound       = prometheus.NewDesc("quiesce_pass_differences", "Confirmed differences of a mapping's last pass that came to its end.", []string{"mapping", "class"}, nil)
	descCleanAge    = prometheus.NewDesc("quiesce_pass_clean_age_seconds", "Time since the end of a mapping's last pass over all rows that found no difference; absent while there was none.", []string{"mapping"}, nil)
	descSyncLooked  = prometheus.NewDesc("quiesce_sync_agreement_looked_total", "Keys that were looked at so long after their events. Only on the node that leads.", []string{"mapping", "within"}, nil)
	descSyncAgreed  = prometheus.NewDesc("quiesce_sync_agreement_agreed_total", "Of those, keys that held what their rows said.", []string{"mapping", "within"}, nil)
	passDescs       = []*prometheus.Desc{descPasses, descThrottled, descFound, descCleanAge, descSyncLooked, descSyncAgreed}
	unfinishedState = []fsm.PassState{fsm.PassRunning, fsm.PassPaused, fsm.PassHeld}
)

// passFigures are what the passes on record say of one mapping.
type passFigures struct {
	last  fsm.Pass // that came to its end
	clean fsm.Pass // the last one over all rows that found nothing
}

// collectPasses is bounded by fsm.PassesMax and, for the mappings, by fsm.MappingsMax.
func (c stateCollector) collectPasses(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	states, figures := map[fsm.PassState]int{}, map[string]*passFigures{}
	var now uint64
	c.s.view(func(v view) {
		now = v.now
		v.Passes(0, func(p fsm.Pass) bool {
			states[p.State]++
			if p.State != fsm.PassDone {
				return true
			}
			f := figures[p.Mapping]
			if f == nil {
				f = &passFigures{}
				figures[p.Mapping] = f
			}
			f.last = p
			if cleanPass(p) {
				f.clean = p
			}
			return true
		})
		for mapping := range figures {
			if _, known := v.Mapping(mapping); !known {
				delete(figures, mapping) // its passes are history
			}
		}
	})
	for _, state := range unfinishedState {
		gauge(descPasses, float64(states[state]), string(state))
	}
	for mapping, f := range figures {
		for class, n := range foundBy(f.last) {
			gauge(descFound, float64(n), mapping, class)
		}
		if f.clean.ID != 0 {
			gauge(descCleanAge, float64(minus(now, f.clean.FinishedAt))/1_000, mapping)
		}
	}
}

// cleanPass: a repaired pass is no clean one, nor is one that left rows out.
func cleanPass(p fsm.Pass) bool {
	return p.From == "" && p.To == "" && !sampled(p.PassOptions) && p.Counts.Differences() == 0 && p.Keys.Extra == 0
}

// foundBy are the differences of a pass by class; a class of none is told too, so that a graph comes down to it.
func foundBy(p fsm.Pass) map[string]uint64 {
	c := p.Counts
	return map[string]uint64{api.VerdictStale: c.Stale, api.VerdictMissing: c.Missing, api.VerdictWrongType: c.WrongType, api.VerdictNoTTL: c.NoTTL, api.ClassExtra: p.Keys.Extra}
}

// collectAgreement tells what the leader's memory has; on other nodes that is nothing.
func (c stateCollector) collectAgreement(out chan<- prometheus.Metric) {
	if c.s.cfg.Passes == nil {
		return
	}
	for _, p := range c.s.cfg.Passes.Progress() {
		throttled := 0.0
		if p.Throttled != "" {
			throttled = 1
		}
		out <- prometheus.MustNewConstMetric(descThrottled, prometheus.GaugeValue, throttled, p.Mapping)
	}
	for _, a := range c.s.cfg.Passes.Agreement() {
		within := spanLabel(a.Within)
		out <- prometheus.MustNewConstMetric(descSyncLooked, prometheus.CounterValue, float64(a.Looked), a.Mapping, within)
		out <- prometheus.MustNewConstMetric(descSyncAgreed, prometheus.CounterValue, float64(a.Agreed), a.Mapping, within)
	}
}

// spanLabel is a duration as a label: 10s, 1m, 5m.
func spanLabel(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return d.Truncate(time.Minute).String()[:len(d.String())-len("0s")]
	}
	return d.String()
}
