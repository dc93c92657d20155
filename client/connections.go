package client

import (
	"slices"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

// connections are what the instance has open to the sources of the cluster: the proof that a transaction which is left open is its own.
type connections struct {
	mu      sync.Mutex
	readers []func() []api.SourceConnections
}

// addConnections makes keepalives report what read gives. It must not block, and go on to give a source that has no connections any more,
// without ids: what is not named is as before.
func (a *App) addConnections(read func() []api.SourceConnections) {
	a.connections.mu.Lock()
	defer a.connections.mu.Unlock()
	a.connections.readers = append(a.connections.readers, read)
}

// read gives each source once, in order, within the bounds of a keepalive.
func (c *connections) read() []api.SourceConnections {
	c.mu.Lock()
	readers := slices.Clone(c.readers)
	c.mu.Unlock()
	var all []api.SourceConnections
	for _, read := range readers {
		for _, of := range read() {
			i := slices.IndexFunc(all, func(s api.SourceConnections) bool { return s.Source == of.Source })
			if i < 0 && len(all) < api.SourcesShownMax {
				i, all = len(all), append(all, api.SourceConnections{Source: of.Source, IDs: []uint64{}})
			}
			if i >= 0 {
				all[i].IDs = append(all[i].IDs, of.IDs[:min(len(of.IDs), api.ConnectionsMax-len(all[i].IDs))]...)
			}
		}
	}
	for _, of := range all {
		slices.Sort(of.IDs)
	}
	return all
}
