package cluster_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nondeterministic are packages by which two replicas could come to differ, with all below them, beside those that do I/O.
var nondeterministic = []string{"math/rand", "crypto/rand", "sync", "context", "unsafe", "maps", "reflect", "math/big", "unique", "weak"}

// The replicated state must be the same on every node: no clock, no chance, no goroutine, no float (whose rounding may differ between
// machines), no order of a map.
func TestLayers_StateMachineUsesNothingByWhichReplicasCouldDiffer(t *testing.T) {
	t.Parallel()
	code, look := stateMachine(t)
	if len(code) == 0 {
		t.Fatal("the state machine has no files")
	}
	for _, wrong := range divergences(t, code, look) {
		t.Error(wrong)
	}
}

// The negative control.
func TestLayers_DivergenceIsReported(t *testing.T) {
	t.Parallel()
	_, look := stateMachine(t)
	for complaint, text := range map[string]string{
		"imports time":           "import \"time\"\nvar x = time.Second",
		"imports math/rand/v2":   "import \"math/rand/v2\"\nvar x = rand.Int",
		"imports sync":           "import \"sync\"\nvar x sync.Mutex",
		"starts a goroutine":     "func f() { go f() }",
		"uses a channel":         "var c chan int",
		"chooses by readiness":   "func f() { select {} }",
		"calculates with floats": "func f(a int) bool { return float64(a) > 1 }",
		"goes over a map":        "func f(m map[int]int) (n int) { for k := range m { n = k }; return n }",
		"goes over a map, ":      "type M map[int]int\nfunc f(m M) (n int) { for k := range m { n = k }; return n }",
	} {
		file := map[string]string{"fixture.go": "package fsm\n" + text + "\n"}
		if wrong := divergences(t, file, look); !strings.Contains(strings.Join(wrong, "\n"), complaint) {
			t.Errorf("%q was not said of\n%s\nbut %v", complaint, text, wrong)
		}
	}
	harmless := map[string]string{"fixture.go": "package fsm\nimport \"slices\"\nfunc f(m map[int]int, s []int) int { for range s { slices.Sort(s) }; return m[1] / 2 }\n"}
	if wrong := divergences(t, harmless, look); len(wrong) != 0 {
		t.Errorf("complained of nothing: %v", wrong)
	}
}

// stateMachine is the source of package fsm, and where its imports' types are found, those of the fixtures included.
func stateMachine(t *testing.T) (code map[string]string, look importer.Lookup) {
	t.Helper()
	code, exports := map[string]string{}, map[string]string{}
	for _, p := range goList(t, "-export", "-deps", "./fsm", "time", "sync", "math/rand/v2") {
		exports[p.ImportPath] = p.Export
		if p.ImportPath != module+"fsm" {
			continue
		}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			code[name] = string(text)
		}
	}
	return code, func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
}

// divergences are the complaints about the files of one package.
func divergences(t *testing.T, code map[string]string, look importer.Lookup) []string {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	for name, text := range code {
		file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.ForCompiler(files, "gc", look), Error: func(error) {}} // an unused import of a fixture is no matter
	if _, err := config.Check("fsm", files, parsed, info); err != nil && len(code) > 1 {
		t.Fatalf("type check: %v", err)
	}
	s := scan{files: files, info: info}
	for _, file := range parsed {
		s.imports(file)
		ast.Inspect(file, s.node)
	}
	slices.Sort(s.found)
	return s.found
}

// scan collects complaints.
type scan struct {
	files *token.FileSet
	info  *types.Info
	found []string
}

func (s *scan) complain(at token.Pos, what string) {
	s.found = append(s.found, fmt.Sprintf("%s: %s", s.files.Position(at), what))
}

func (s *scan) imports(file *ast.File) {
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if within(path, nondeterministic) || within(path, doesIO) {
			s.complain(i.Pos(), "imports "+path)
		}
	}
}

func (s *scan) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		s.complain(n.Pos(), "starts a goroutine")
	case *ast.ChanType:
		s.complain(n.Pos(), "uses a channel")
	case *ast.SelectStmt:
		s.complain(n.Pos(), "chooses by readiness")
	case *ast.RangeStmt:
		if of := s.info.TypeOf(n.X); of != nil {
			if _, isMap := of.Underlying().(*types.Map); isMap {
				s.complain(n.Pos(), "goes over a map, whose order differs")
			}
		}
	}
	if e, isExpr := n.(ast.Expr); isExpr {
		if of := s.info.TypeOf(e); of != nil {
			if basic, isBasic := of.Underlying().(*types.Basic); isBasic && basic.Info()&(types.IsFloat|types.IsComplex) != 0 {
				s.complain(n.Pos(), "calculates with floats")
			}
		}
	}
	return true
}
