package main

import (
	"context"
	"database/sql"
	"io"
	"net/http"
	"os"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql

	"github.com/quiescehq/quiesce/client/fence"
)

const writeLimit = 10 * time.Second

// late holds a lock, lets the time pass that the client wants, and then writes under the lock's token, as a process does that was stopped
// between looking at its lock and writing.
func (s *streams) late(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.URL.Query().Get("after"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	lock, err := s.app.Lock(r.Context(), r.URL.Query().Get("lock"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	s.log.Info("locked", "token", lock.Token())
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C // not its context: it is this writer that has not noticed
	outcome := "written"
	if err := write(lock.Token()); err != nil {
		outcome = err.Error()
	}
	s.log.Info("late write", "token", lock.Token(), "outcome", outcome)
	_, _ = io.WriteString(w, outcome)
}

// write counts a write to the guarded row, unless a newer holder has shown its token.
func write(token uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	db, err := sql.Open("mysql", os.Getenv("APP_DSN"))
	if err != nil {
		return err
	}
	defer db.Close()
	guarded, err := fence.NewTable(fence.Spec{Table: "guarded"})
	if err != nil {
		return err
	}
	return guarded.Row(1).Do(ctx, db, token, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE guarded SET writes = writes + 1 WHERE id = 1")
		return err
	})
}
