package quiescetest

import (
	"os"
	"syscall"
)

// Signals stand for those of the process in a test that runs an application inside of its own process:
//
//	signals := make(quiescetest.Signals, 2)
//	app, err := client.Join("orders", client.Addrs(addr), client.Signals(signals))
//	...
//	signals.SendSIGTERM()
type Signals chan os.Signal

// SendSIGTERM asks the application to stop, as a platform does; a second time, to stop at once.
func (s Signals) SendSIGTERM() { s <- syscall.SIGTERM }
