// Package ginquiesce puts the gate and the probes of package client into a Gin application. It holds no state of its own.
package ginquiesce
