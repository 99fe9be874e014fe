package sequin_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// The limits of the layout. Past them a file has two responsibilities, or a function does two things.
const (
	maxSourceLines   = 400
	maxTestLines     = 600
	maxFunctionLines = 60
	maxRootFiles     = 36 // so that a listing of the root shows the architecture
)

const rootPackage = "github.com/sequin-go/sequin"

// engines are the packages that the root is built on. They do not know it.
var engines = []string{"batch", "lease", "flow", "breaker", "failurelog", "wire", "transport", "token", "blame", "outputs", "extend", "calls", "linelog", "outage"}

// goFile is one Go file of a tree.
type goFile struct {
	path   string // relative to the tree, with slashes
	lines  int
	fset   *token.FileSet
	syntax *ast.File
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// readTree parses every Go file of a tree, those of nested modules among them.
func readTree(t *testing.T, tree fs.FS) (files []goFile) {
	t.Helper()
	require.NoError(t, fs.WalkDir(tree, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		f := goFile{path: file, lines: strings.Count(string(text), "\n"), fset: token.NewFileSet()}
		f.syntax, err = parser.ParseFile(f.fset, file, text, parser.ParseComments|parser.SkipObjectResolution)
		files = append(files, f)
		return err
	}))
	return files
}

// functions returns the function and method declarations of a file.
func functions(file *ast.File) (all []*ast.FuncDecl) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			all = append(all, f)
		}
	}
	return all
}

func longFiles(files []goFile) (broken []string) {
	for _, f := range files {
		most := maxSourceLines
		if f.isTest() {
			most = maxTestLines
		}
		if f.lines > most {
			broken = append(broken, fmt.Sprintf("%s has %d lines, must have at most %d", f.path, f.lines, most))
		}
	}
	return broken
}

func longFunctions(files []goFile) (broken []string) {
	for _, f := range files {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			name := "a function literal"
			switch n := n.(type) {
			case *ast.FuncDecl:
				name = n.Name.Name
			case *ast.FuncLit:
			default:
				return true
			}
			first := f.fset.Position(n.Pos()).Line
			if lines := f.fset.Position(n.End()).Line - first + 1; lines > maxFunctionLines {
				broken = append(broken, fmt.Sprintf("%s:%d: %s has %d lines, must have at most %d", f.path, first, name, lines, maxFunctionLines))
			}
			return true
		})
	}
	return broken
}

func importsOfTheRoot(files []goFile) (broken []string) {
	for _, f := range files {
		if parts := strings.Split(f.path, "/"); parts[0] != "internal" || !slices.Contains(engines, parts[1]) {
			continue
		}
		for _, i := range f.syntax.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); name == rootPackage {
				broken = append(broken, f.path+" imports the root package")
			}
		}
	}
	return broken
}

// embeddedPointers finds structs that embed a pointer to a type of their own package which has methods: the struct would
// look as if it inherited from its owner. A pointer to plain data, as in the JSON of an answer, may be embedded.
func embeddedPointers(files []goFile) (broken []string) {
	type name struct{ dir, pkg, typ string }
	hasMethods := map[name]bool{}
	for _, f := range files {
		for _, method := range functions(f.syntax) {
			if method.Recv == nil {
				continue
			}
			receiver := method.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			hasMethods[name{path.Dir(f.path), f.syntax.Name.Name, typeName(receiver)}] = true
		}
	}
	for _, f := range files {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			structure, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range structure.Fields.List {
				star, isPointer := field.Type.(*ast.StarExpr)
				if len(field.Names) > 0 || !isPointer {
					continue
				}
				if owner := typeName(star.X); hasMethods[name{path.Dir(f.path), f.syntax.Name.Name, owner}] {
					broken = append(broken, fmt.Sprintf("%s embeds *%s: give the field a name", f.fset.Position(field.Pos()), owner))
				}
			}
			return true
		})
	}
	return broken
}

// typeName is the name of a type of the file's own package, also of a generic one; "" of any other.
func typeName(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.IndexExpr:
		return typeName(x.X)
	case *ast.IndexListExpr:
		return typeName(x.X)
	}
	return ""
}

func crowdedRoot(files []goFile) (broken []string) {
	n := 0
	for _, f := range files {
		if path.Dir(f.path) == "." && !f.isTest() {
			n++
		}
	}
	if n > maxRootFiles {
		broken = append(broken, fmt.Sprintf("the root has %d source files, must have at most %d", n, maxRootFiles))
	}
	return broken
}

func undocumentedEngines(files []goFile) (broken []string) {
	for _, engine := range engines {
		dir := "internal/" + engine
		if !slices.ContainsFunc(files, func(f goFile) bool { return path.Dir(f.path) == dir && f.syntax.Doc != nil }) {
			broken = append(broken, dir+" has no package comment")
		}
	}
	return broken
}

// layoutRules by the name of what they demand.
var layoutRules = map[string]func([]goFile) (broken []string){
	"files are short":                                longFiles,
	"functions are short":                            longFunctions,
	"the packages below the root do not import it":   importsOfTheRoot,
	"a struct does not embed a pointer to its owner": embeddedPointers,
	"the root has few files":                         crowdedRoot,
	"each package below the root says what it does":  undocumentedEngines,
}

// layoutExceptions are parts of the texts of what still breaks a rule. The list only gets shorter.
var layoutExceptions = []string{
	"embeds *running",
}

func TestTheTreeKeepsTheLayout(t *testing.T) {
	files := readTree(t, os.DirFS("."))
	for name, rule := range layoutRules {
		t.Run(name, func(t *testing.T) {
			for _, broken := range rule(files) {
				if !slices.ContainsFunc(layoutExceptions, func(e string) bool { return strings.Contains(broken, e) }) {
					t.Error(broken)
				}
			}
		})
	}
}

// Each rule finds what breaks it, and nothing else.
func TestTheLayoutsRulesFindWhatBreaksThem(t *testing.T) {
	long := func(n int) string { return "package p\n" + strings.Repeat("\n", n-1) }
	function := func(lines int) string { return "package p\nfunc f() {" + strings.Repeat("\n", lines-1) + "}\n" }
	for _, row := range []struct {
		rule   string
		files  map[string]string
		broken int
	}{
		{"files are short", map[string]string{"a.go": long(maxSourceLines), "a_test.go": long(maxTestLines)}, 0},
		{"files are short", map[string]string{"x/a.go": long(maxSourceLines + 1), "a_test.go": long(maxTestLines + 1)}, 2},
		{"functions are short", map[string]string{"a.go": function(maxFunctionLines)}, 0},
		{"functions are short", map[string]string{"a.go": function(maxFunctionLines + 1), "b_test.go": function(maxFunctionLines + 1)}, 2},
		{"functions are short", map[string]string{"a.go": "package p\nvar f = func() {" + strings.Repeat("\n", maxFunctionLines) + "}\n"}, 1},
		{"the packages below the root do not import it", map[string]string{
			"internal/batch/a.go": `package batch; import "github.com/sequin-go/sequin/internal/jscan"`,
			"internal/sim/a.go":   `package sim; import "github.com/sequin-go/sequin"`}, 0},
		{"the packages below the root do not import it", map[string]string{
			"internal/wire/a_test.go": `package wire; import "github.com/sequin-go/sequin"`}, 1},
		{"a struct does not embed a pointer to its owner", map[string]string{
			"a.go":   "package p; type A struct{}; func (a *A) f() {}; type Data struct{}; type B struct { A; a *A; *other.A; *Data }",
			"x/a.go": "package x; type C struct { *A }"}, 0},
		{"a struct does not embed a pointer to its owner", map[string]string{
			"a.go": "package p; type A[T any] struct{}; func (A[T]) f() {}; type B struct{}; func (b *B) f() {}",
			"b.go": "package p; type C struct { *A[int]; *B }"}, 2},
		{"each package below the root says what it does", map[string]string{
			"internal/batch/a.go": "package batch", "internal/lease/a.go": "// Package lease leases.\npackage lease"}, len(engines) - 1},
	} {
		tree := fstest.MapFS{}
		for name, text := range row.files {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
		require.Lenf(t, layoutRules[row.rule](readTree(t, tree)), row.broken, "%s: %v", row.rule, row.files)
	}
	tree := fstest.MapFS{}
	for i := range maxRootFiles + 1 {
		tree[fmt.Sprintf("a%d.go", i)] = &fstest.MapFile{Data: []byte("package p")}
	}
	require.Len(t, crowdedRoot(readTree(t, tree)), 1)
}
