// Package wire is the cheapest HTTP/1.1 client that can still be called one: a connection, bytes out, bytes in.
//
// # Purpose
//
// Clients share the machine with what is measured. net/http's client costs more than the server it calls, so a comparison made with it
// says more about the client. This one writes a request with one system call and reads the answer usually with another.
//
// # Ownership
//
// A Conn belongs to one goroutine. It starts none.
//
// # Failure
//
// Every exchange has a deadline. After an error the connection is of no further use.
//
// # Limits
//
// Answers up to 8 MiB; bodies with Content-Length or chunks.
//
// # Not here
//
// Redirects, compression, pipelining, TLS, retries.
package wire
