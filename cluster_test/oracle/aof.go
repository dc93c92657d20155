package oracle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Step is a guard whose token fell: somebody older wrote after somebody newer.
type Step struct {
	Guard    string
	From, To uint64
}

// Order is what an append-only file tells of guards.
type Order struct {
	Writes    int // of tokens to guards
	Backwards []Step
}

var errFormat = errors.New("oracle: not an append-only file")

const (
	argumentsMax = 1 << 20
	argumentMax  = 64 << 20
)

// ReadAOF goes over the incremental files of a folder, in their order, and looks at every token that was written to a guard of the prefix. A token never falls, whatever
// becomes of the guard between: it may expire, and then no older write may come. Whoever else wants to see the commands is shown each of them.
func ReadAOF(folder, guardPrefix string, others ...func(command []string)) (Order, error) {
	var order Order
	last := map[string]uint64{}
	err := scan(folder, func(command []string) {
		order.take(last, command, guardPrefix)
		for _, see := range others {
			see(command)
		}
	})
	return order, err
}

// take looks at one command.
func (o *Order) take(last map[string]uint64, command []string, guardPrefix string) {
	if len(command) < 4 || !strings.EqualFold(command[0], "HSET") || !strings.HasPrefix(command[1], guardPrefix) {
		return
	}
	for i := 2; i+1 < len(command); i += 2 {
		token, err := strconv.ParseUint(command[i+1], 10, 64)
		if command[i] != "t" || err != nil {
			continue
		}
		o.Writes++
		if had := last[command[1]]; token < had {
			o.Backwards = append(o.Backwards, Step{command[1], had, token})
		}
		last[command[1]] = token
	}
}

func scan(folder string, take func(command []string)) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.incr.aof"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%w: %s has no incremental file", errFormat, folder)
	}
	slices.SortFunc(files, func(a, b string) int { return sequence(a) - sequence(b) })
	for _, file := range files {
		if err := readFile(file, take); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// sequence is the number in appendonly.aof.3.incr.aof.
func sequence(file string) int {
	parts := strings.Split(filepath.Base(file), ".")
	n, _ := strconv.Atoi(parts[max(len(parts)-3, 0)])
	return n
}

// readFile takes a file that ends in the middle of a command, as a killed server leaves it, for one that ends before it.
func readFile(path string, take func(command []string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		command, err := readCommand(in)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
		take(command)
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(line, "#") { // an annotation: the time
		return nil, nil
	}
	count, err := number(line, '*', argumentsMax)
	if err != nil {
		return nil, err
	}
	command := make([]string, count)
	for i := range command {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		size, err := number(line, '$', argumentMax)
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		command[i] = string(text[:size])
	}
	return command, nil
}

func number(line string, kind byte, limit int) (int, error) {
	text := strings.TrimRight(line, "\r\n")
	if len(text) < 2 || text[0] != kind {
		return 0, fmt.Errorf("%w: %.20q", errFormat, line)
	}
	n, err := strconv.Atoi(text[1:])
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%w: %.20q", errFormat, line)
	}
	return n, nil
}
