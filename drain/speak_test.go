package drain

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
)

// speak sends commands to Redis without the package under test, in one pipeline; each must answer with a line.
func speak(t testing.TB, addr string, commands func(send func(args ...string))) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b bytes.Buffer
	sent := 0
	commands(func(args ...string) {
		sent++
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
	})
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for range sent {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-") {
			t.Fatalf("%q, %v", line, err)
		}
	}
}
