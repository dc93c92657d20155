package mysql

import (
	"context"
	"strconv"
	"strings"
)

// Position is how far a server's history goes, as far as it writes one.
type Position struct {
	Server  string // server_uuid; on MariaDB server_id
	Flavour string
	Logged  bool   // it writes a binlog; else nobody can tell what a failover lost
	GTIDs   string // gtid_executed; on MariaDB gtid_binlog_state
}

// Position asks the server how far it is. One that is read-only answers [ErrNotPrimary].
func (s *Source) Position(ctx context.Context) (Position, error) {
	id, err := s.Identity(ctx)
	if err != nil {
		return Position{}, err
	}
	if id.ReadOnly {
		return Position{}, s.wrap(ctx, ErrNotPrimary)
	}
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	p := Position{Server: id.UUID, Flavour: id.Flavour}
	history := "@@global.gtid_executed"
	if id.Flavour == flavourMariaDB {
		p.Server, history = strconv.FormatUint(id.ServerID, 10), "@@global.gtid_binlog_state"
	}
	err = s.pool.QueryRowContext(bounded, "SELECT @@global.log_bin, "+history).Scan(&p.Logged, &p.GTIDs)
	return p, s.wrap(ctx, err)
}

// Holds tells whether the server of p has every commit that an earlier position had. known is false where one of them keeps no history.
func (s *Source) Holds(ctx context.Context, p, earlier Position) (holds, known bool, err error) {
	switch {
	case !p.Logged || !earlier.Logged || p.Flavour != earlier.Flavour:
		return false, false, nil
	case p.Flavour == flavourMariaDB:
		return holdsMariaDB(p.GTIDs, earlier.GTIDs), true, nil
	}
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	err = s.pool.QueryRowContext(bounded, "SELECT GTID_SUBSET(?, ?)", earlier.GTIDs, p.GTIDs).Scan(&holds)
	return holds, err == nil, s.wrap(ctx, err)
}

// holdsMariaDB compares two states: for each domain and server the last sequence number that is in the binlog.
func holdsMariaDB(state, earlier string) bool {
	has := map[string]uint64{}
	for stream, last := range streams(state) {
		has[stream] = last
	}
	for stream, last := range streams(earlier) {
		if has[stream] < last {
			return false
		}
	}
	return true
}

// streams reads 0-1-270,1-2-8 into the last number of each domain-server.
func streams(state string) map[string]uint64 {
	out := map[string]uint64{}
	for gtid := range strings.SplitSeq(state, ",") {
		gtid = strings.TrimSpace(gtid)
		if cut := strings.LastIndexByte(gtid, '-'); cut > 0 {
			last, err := strconv.ParseUint(gtid[cut+1:], 10, 64)
			if err == nil {
				out[gtid[:cut]] = max(out[gtid[:cut]], last)
			}
		}
	}
	return out
}
