package main

import (
	"errors"
	"os"
	"time"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
)

// meter reads how much CPU a case costs. Unlike a rate it hardly depends on what else the machine does.
type meter struct {
	servers []int // pids
	own     []int // all that this run has started, itself included
	at      time.Time
	before  reading
}

type reading struct{ servers, client, own, machine time.Duration }

func startMeter(servers, own []int) (meter, error) {
	m := meter{servers: servers, own: append(own, os.Getpid()), at: time.Now()}
	var err error
	m.before, err = m.read()
	return m, err
}

func (m meter) read() (r reading, err error) {
	var errs [4]error
	r.servers, errs[0] = process.CPU(m.servers...)
	r.client, errs[1] = process.CPU(os.Getpid())
	r.own, errs[2] = process.CPU(m.own...)
	r.machine, errs[3] = process.Busy()
	return r, errors.Join(errs[:]...)
}

// stop notes the cost in a sample.
func (m meter) stop(s *load.Sample) error {
	after, err := m.read()
	if err != nil {
		return err
	}
	s.Servers, s.Client = after.servers-m.before.servers, after.client-m.before.client
	others := (after.machine - m.before.machine) - (after.own - m.before.own)
	s.Others = max(0, others.Seconds()) / time.Since(m.at).Seconds()
	return nil
}
