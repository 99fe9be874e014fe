package sequin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryExportedNameHasAComment reads the packages of all modules that other programs can import. staticcheck checks the form of
// the comments.
func TestEveryExportedNameHasAComment(t *testing.T) {
	packages := importable(t)
	require.Subset(t, dirsOf(packages), []string{".", "envelope", "sequintest", "server", "server/durable", "server/postgres", "adapters/gocloud", "adapters/watermill", "otelsequin", "promsequin"})
	for dir, files := range packages {
		documented := false
		for _, f := range files {
			documented = documented || f.Doc != nil
			for _, decl := range f.Decls {
				for _, name := range undocumented(decl) {
					t.Errorf("%s: %s has no comment", dir, name)
				}
			}
		}
		require.True(t, documented, "%s: no package comment", dir)
	}
}

// examplesOf has the packages whose examples need another module, and are there.
var examplesOf = map[string]string{"server/transfer": "server/durable"}

// TestEveryPackageHasAnExample checks that each package shows how it is used, with an output that is checked.
func TestEveryPackageHasAnExample(t *testing.T) {
	for dir := range importable(t) {
		elsewhere, ok := examplesOf[dir]
		if !ok {
			elsewhere = dir
		}
		names, err := filepath.Glob(filepath.Join(elsewhere, "*_test.go"))
		require.NoError(t, err)
		checked := func(name string) bool {
			text := readText(t, name)
			return strings.Contains(text, "\nfunc Example") && strings.Contains(text, "// Output:") && (!ok || strings.Contains(text, "sequin/"+dir+`"`))
		}
		require.True(t, slices.ContainsFunc(names, checked), "%s has no Example with an output", dir)
	}
}

// TestEveryFunctionIsInAnExample checks that each function of a package is called in an example of it.
func TestEveryFunctionIsInAnExample(t *testing.T) {
	for dir, files := range importable(t) {
		elsewhere, ok := examplesOf[dir]
		if !ok {
			elsewhere = dir
		}
		examples := examplesIn(t, elsewhere)
		for _, f := range files {
			for _, decl := range f.Decls {
				if d, ok := decl.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.IsExported() {
					require.Contains(t, examples, f.Name.Name+"."+d.Name.Name, "%s: no example calls %s", dir, d.Name.Name)
				}
			}
		}
	}
}

// examplesIn returns the texts of the tests in a directory that have an example.
func examplesIn(t *testing.T, dir string) (all string) {
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, name := range names {
		if text := readText(t, name); strings.Contains(text, "\nfunc Example") {
			all += text
		}
	}
	return all
}

// importable returns the files of the packages that other programs can import, without tests, by directory.
func importable(t *testing.T) map[string][]*ast.File {
	packages := map[string][]*ast.File{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (path != "." && strings.HasPrefix(name, ".") || slices.Contains([]string{"internal", "examples", "testdata", "bin"}, name)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err == nil && f.Name.Name != "main" {
			dir := filepath.ToSlash(filepath.Dir(path))
			packages[dir] = append(packages[dir], f)
		}
		return err
	}))
	return packages
}

func dirsOf(packages map[string][]*ast.File) (dirs []string) {
	for dir := range packages {
		dirs = append(dirs, dir)
	}
	return dirs
}

// undocumented returns the exported names of a declaration that have no comment.
func undocumented(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || isExportedType(d.Recv.List[0].Type)) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					// A comment on the group, or at the end of the line, is enough for each of several constants.
					if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// isExportedType reports whether the type of a receiver is exported.
func isExportedType(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.StarExpr:
		return isExportedType(x.X)
	case *ast.IndexExpr:
		return isExportedType(x.X)
	case *ast.IndexListExpr:
		return isExportedType(x.X)
	case *ast.Ident:
		return x.IsExported()
	}
	return false
}
