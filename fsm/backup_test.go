package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// lived is a state with a history, and the same state later.
func lived(t *testing.T, early, late int) (backup, present *State) {
	t.Helper()
	log := history(t, seedOf(t), late)
	present = New()
	for i, l := range log {
		if i == early {
			backup = throughSnapshot(t, present)
		}
		present.Apply(l.term, l.entry)
	}
	return backup, present
}

func backupOf(t *testing.T, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Clone().WriteBackup(&b, "c1"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBackup_HoldsTheWholeStateAndSaysSo(t *testing.T) {
	t.Parallel()
	s, _ := lived(t, 150, 151)
	whole := backupOf(t, s)
	got, header, err := ReadBackup(iotest.OneByteReader(bytes.NewReader(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != s.Digest() || header != s.BackupHeader("c1") || header.Digest != s.Digest().String() {
		t.Errorf("%+v of a state with digest %s, token %d", header, s.Digest(), s.Token())
	}
	// Anybody can check it: the last 32 bytes are the SHA-256 of the others.
	body, sum := whole[:len(whole)-sha256.Size], whole[len(whole)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		t.Errorf("ends with %s, its SHA-256 is %s", hex.EncodeToString(sum), hex.EncodeToString(want[:]))
	}
	if lines := strings.SplitN(string(whole), "\n", 3); lines[0] != "QUIESCE BACKUP 1" || !strings.HasPrefix(lines[1], `{"cluster":"c1",`) {
		t.Errorf("begins with %q", lines[:2])
	}
}

func TestBackup_AnyDamagedByteIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := lived(t, 150, 151)
	whole := backupOf(t, s)
	refused := func(what string, b []byte) {
		if _, _, err := ReadBackup(bytes.NewReader(b)); !errors.Is(err, ErrDamagedBackup) && !errors.Is(err, ErrNewerBackup) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := 0; i < len(whole); i += 1 + i/64 + len(whole)/2000 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		refused(fmt.Sprintf("bit %d of byte %d flipped", i%8, i), damaged)
		refused(fmt.Sprintf("cut at %d", i), whole[:i])
	}
	for i := range sha256.Size + 2 {
		refused(fmt.Sprintf("%d bytes short", i+1), whole[:len(whole)-i-1])
	}
	refused("one byte more", append(bytes.Clone(whole), 0))
	refused("twice", append(bytes.Clone(whole), whole...))
}

// A stream that breaks must not be called damaged only: whoever reads it has to know why it broke.
func TestBackup_CauseOfABrokenStreamIsTold(t *testing.T) {
	t.Parallel()
	s, _ := lived(t, 150, 151)
	whole := backupOf(t, s)
	broken := errors.New("broken")
	_, _, err := ReadBackup(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !errors.Is(err, ErrDamagedBackup) {
		t.Error(err)
	}
}

func TestBackup_OfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	whole := backupOf(t, New())
	for from, to := range map[string]string{
		"BACKUP 1":     "BACKUP 2",
		`"level":5`:    `"level":6`,
		`"sections":2`: `"sections":92`,
	} {
		newer := bytes.Replace(whole, []byte(from), []byte(to), 1)
		if bytes.Equal(newer, whole) {
			t.Fatalf("%s is not in it", from)
		}
		if _, _, err := ReadBackup(bytes.NewReader(newer)); !errors.Is(err, ErrNewerBackup) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestSucceed_NoCounterFallsAndNoTokenComesTwice(t *testing.T) {
	t.Parallel()
	old, present := lived(t, 150, 300)
	if old.Token() >= present.Token() || old.Revision() >= present.Revision() {
		t.Fatal("nothing happened after the backup")
	}
	for name, s := range map[string][2]*State{"older": {old, present}, "newer": {present, old}, "empty": {New(), present}} {
		from, to := throughSnapshot(t, s[0]), s[1]
		token, revision, now := max(from.Token(), to.Token()), max(from.Revision(), to.Revision()), max(from.Now(), to.Now())
		if err := from.Succeed(to, Act{Action: "restore"}); err != nil {
			t.Fatal(err)
		}
		got := throughSnapshot(t, from)
		if got.Token() != token+RestoreTokenJump+1 || got.Revision() <= revision || got.Now() != now {
			t.Errorf("%s: token %d after %d, revision %d after %d, time %d after %d", name, got.Token(), token, got.Revision(), revision, got.Now(), now)
		}
		for _, table := range got.sections() {
			if m := got.Modified(table.title()); m <= revision {
				t.Errorf("%s: whoever waits for news of %s since %d is not told: %d", name, table.title(), revision, m)
			}
		}
		if got.nodes.sum() != to.nodes.sum() {
			t.Errorf("%s: the nodes are those of the backup", name)
		}
	}
}

func TestSucceed_RestoredStateGoesOnWithItsInvariants(t *testing.T) {
	t.Parallel()
	old, present := lived(t, 150, 300)
	if err := old.Succeed(present, Act{Action: "restore"}); err != nil {
		t.Fatal(err)
	}
	s := throughSnapshot(t, old)
	for _, l := range history(t, seedOf(t), 200) {
		l.entry.Now += present.Now()
		apply(t, s, present.Term()+l.term, l.entry)
	}
}

// A session of the backup has its TTL from the restore on. One that nobody keeps ends then, though leaders change all the while.
func TestSucceed_SessionsGetOneTTLAndNoMore(t *testing.T) {
	t.Parallel()
	s, present := New(), New()
	const ttl = 5_000
	apply(t, s, 3, Entry{Now: 1_000, Ops: []Op{{Command: TermStart{Node: "n1"}}, {Command: OpenSession{ID: "dead", TTLMs: ttl}}, {Command: OpenSession{ID: "kept", TTLMs: ttl}}}})
	apply(t, present, 3, Entry{Now: 90_000, Ops: []Op{{Command: TermStart{Node: "n1"}}, {Command: OpenSession{ID: "dead", TTLMs: ttl}}, {Command: OpenSession{ID: "new", TTLMs: ttl}}}})
	for range 3 {
		apply(t, present, 3, Entry{Ops: []Op{{Command: RenewSessions{IDs: []string{"dead"}}}}})
	}
	about, _ := present.Session("dead")
	if err := s.Succeed(present, Act{Action: "restore"}); err != nil {
		t.Fatal(err)
	}
	s = throughSnapshot(t, s)
	if _, ok := s.Session("new"); ok {
		t.Error("a session that the backup does not know is still there")
	}
	for term := uint64(3); term < 6; term++ {
		apply(t, s, term, Entry{Now: 90_000 + term*1_000, Ops: []Op{{Command: TermStart{Node: "n1"}}, {Command: RenewSessions{IDs: []string{"kept"}}}}})
		if v, _ := s.Session("dead"); v.Deadline != 90_000+ttl {
			t.Errorf("term %d: the deadline is %d", term, v.Deadline)
		}
	}
	if v, _ := s.Session("kept"); v.Deadline != 95_000+ttl {
		t.Errorf("the kept session's deadline is %d", v.Deadline)
	}
	// What a leader was about to say of the session before the restore does not hold after it.
	if r := apply(t, s, 5, Entry{Ops: []Op{{Command: ExpireSession{ID: "dead", Generation: about.Generation}}}})[0]; r.Code != CodeStaleGeneration {
		t.Errorf("an expiry of before the restore: %+v", r)
	}
}

func TestSucceed_CountersWithoutRoomAreRefused(t *testing.T) {
	t.Parallel()
	for last, fits := range map[uint64]bool{TokenMax - RestoreTokenJump - 1: true, TokenMax - RestoreTokenJump: false} {
		for name, set := range map[string]func(a, b *State){
			"backup":  func(a, _ *State) { a.counters.Token = last },
			"present": func(_, b *State) { b.counters.Token = last },
		} {
			a, b := New(), New()
			set(a, b)
			before := a.counters
			if err := a.Succeed(b, Act{}); errors.Is(err, ErrTokensExhausted) == fits || err != nil && a.counters != before {
				t.Errorf("token %d in the %s: %v", last, name, err)
			}
		}
	}
	a, b := New(), New()
	b.counters.Revision = TokenMax
	if err := a.Succeed(b, Act{}); !errors.Is(err, ErrTokensExhausted) {
		t.Error(err)
	}
}

// A restore does not undo what operators did, nor hide itself.
func TestSucceed_AuditGoesOn(t *testing.T) {
	t.Parallel()
	s, present := New(), New()
	apply(t, s, 1, Entry{Ops: []Op{{Command: TermStart{}}, {Command: OpenSession{ID: "a", TTLMs: 5_000}}}})
	present = throughSnapshot(t, s)
	for i := range ActsMax {
		name := fmt.Sprintf("l%d", i)
		present.Apply(1, Entry{Ops: []Op{{Command: AcquireLock{Session: "a", Wants: []LockWant{{Name: name}}}}, {Command: ForceReleaseLock{Name: name, Reason: "r"}}}})
	}
	if present.acts.len() != ActsMax {
		t.Fatalf("%d acts", present.acts.len())
	}
	if err := s.Succeed(present, Act{Action: "cluster.restore", By: "me"}); err != nil {
		t.Fatal(err)
	}
	var newest []Act
	s.Acts(0, func(a Act) bool { newest = append(newest, a); return len(newest) < 2 })
	if s.acts.len() != ActsMax || newest[0].Action != "cluster.restore" || newest[0].ID != s.Token() || newest[0].Index != s.Revision() || newest[1].Subject != fmt.Sprintf("l%d", ActsMax-1) {
		t.Errorf("%d acts, the newest %+v", s.acts.len(), newest)
	}
}
