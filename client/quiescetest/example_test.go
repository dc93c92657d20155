package quiescetest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// A job must stop its work when its lock is lost. In a test, quiescetest.Start(t) does the first three lines.
func Example() {
	coordinator := quiescetest.New()
	addr := coordinator.Listen()
	defer coordinator.Close()

	ctx := context.Background()
	quiesce, err := client.New(client.Config{Addrs: []string{addr}})
	if err != nil {
		panic(err)
	}
	defer quiesce.Close()
	session, err := quiesce.OpenSession(ctx, "nightly job", time.Second)
	if err != nil {
		panic(err)
	}
	lock, err := session.Lock(ctx, "nightly")
	if err != nil {
		panic(err)
	}

	coordinator.ExpireSession(session.ID()) // as if the job's process had been stopped for longer than its TTL
	<-lock.Done()
	holder, _ := coordinator.Holder("nightly")
	fmt.Println(errors.Is(lock.Err(), client.ErrLockLost), holder == "")
	// Output: true true
}
