package sequin_test

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// documents are the pages whose links, paths and code are checked.
var documents = []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/guarantees.md", "docs/architecture.md", "docs/durability.md", "docs/metrics.md"}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// unindent strips the indentation of each line, in which a document and the file that its code comes from differ.
func unindent(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}

// testCode is the text of all Go test files of the repository.
func testCode(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(file string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, "_test.go") {
			code.WriteString(unindent(readText(t, file)) + "\n")
		}
		return err
	}))
	return code.String()
}

// The first sample is a program, which TestTheFirstProgramOfTheREADMEPrintsWhatItShows runs.
func TestTheREADMEsCodeIsCodeThatCompiles(t *testing.T) {
	code := testCode(t)
	all, _ := samples(t)
	for _, sample := range all[1:] {
		if !strings.Contains(code, unindent(withoutImports(sample))) {
			t.Errorf("no test file has this code of the README:\n%s", sample)
		}
	}
}

func TestThePackageCommentsCodeIsCodeThatCompiles(t *testing.T) {
	code := testCode(t)
	blocks := regexp.MustCompile(`(?m)(?:^//\t.*\n)+`).FindAllString(readText(t, "doc.go"), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		block = strings.ReplaceAll(block, "//\t", "")
		if !strings.Contains(code, unindent(block)) {
			t.Errorf("no test file has this code of doc.go:\n%s", block)
		}
	}
}

func TestThePackageCommentIsATour(t *testing.T) {
	require.LessOrEqual(t, strings.Count(readText(t, "doc.go"), "\n"), 70, "what is longer belongs into docs/guarantees.md")
}

func TestLinksAndPathsOfTheDocumentsExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)\)`)
	program := regexp.MustCompile(`go run \./([a-z/]+)`)
	goFile := regexp.MustCompile("`([a-z_/]+\\.go)`")
	folder := regexp.MustCompile("`((?:internal|server|examples|cmd)/[a-z/]+)`")
	for _, document := range documents {
		prose := regexp.MustCompile("(?s)```go\n.*?```").ReplaceAllString(readText(t, document), "") // f[T](d) is no link
		var paths []string
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			paths = append(paths, path.Join(path.Dir(document), m[1]))
		}
		for _, pattern := range []*regexp.Regexp{program, goFile, folder} {
			for _, m := range pattern.FindAllStringSubmatch(prose, -1) {
				paths = append(paths, m[1])
			}
		}
		for _, p := range paths {
			_, err := os.Stat(p)
			require.NoErrorf(t, err, "%s names %s", document, p)
		}
	}
}

// testsOf returns the names of the tests of a directory.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, f := range functions(parsed) {
			names[f.Name.Name] = true
		}
	}
	return names
}

// The document lists the tests of each promise: `TestA`, `TestB`; `package/path`: `TestC`.
func TestEveryGuaranteeNamesTestsThatExist(t *testing.T) {
	const start = "**Tests:**"
	quoted := regexp.MustCompile("`([^`]+)`")
	promises := strings.Split(readText(t, "docs/guarantees.md"), "\n### ")[1:]
	require.NotEmpty(t, promises)
	known := map[string]map[string]bool{}
	for _, promise := range promises {
		title, _, _ := strings.Cut(promise, "\n")
		_, list, found := strings.Cut(promise, start)
		require.Truef(t, found, "the promise %q names no test", title)
		list, _, _ = strings.Cut(list, "\n\n")
		dir := "."
		for _, name := range quoted.FindAllStringSubmatch(list, -1) {
			if !strings.HasPrefix(name[1], "Test") && !strings.HasPrefix(name[1], "Fuzz") {
				dir = name[1]
				continue
			}
			if known[dir] == nil {
				known[dir] = testsOf(t, dir)
			}
			if !known[dir][name[1]] {
				t.Errorf("docs/guarantees.md, %q: there is no %s in %s", title, name[1], dir)
			}
		}
	}
}

// While there are unreleased changes, Version is that of the next release with the suffix -dev. The commit of a release
// gives the changes a heading of their own, and removes the suffix.
func TestVersionAgreesWithTheChangelog(t *testing.T) {
	require.NoError(t, versionFits(readText(t, "CHANGELOG.md"), sequin.Version))
	const released = "## [Unreleased]\n\n## [0.2.0] - 2027-01-01\n\n* x\n"
	const changed = "## [Unreleased]\n\n* y\n\n## [0.2.0] - 2027-01-01\n\n* x\n"
	const first = "## [Unreleased]\n\n* x\n"
	for _, row := range []struct {
		changelog, version string
		fits               bool
	}{
		{first, "0.1.0-dev", true}, {first, "0.1.0", false},
		{released, "0.2.0", true}, {released, "0.2.0-dev", false}, {released, "0.1.0", false},
		{changed, "0.3.0-dev", true}, {changed, "0.10.0-dev", true}, {changed, "0.2.1-dev", true}, {changed, "0.2.0-dev", false},
		{changed, "0.3.0", false}, {changed, "0.1.9-dev", false}, {"", "0.1.0-dev", false},
	} {
		require.Equalf(t, row.fits, versionFits(row.changelog, row.version) == nil, "%s and\n%s", row.version, row.changelog)
	}
}

// versionFits returns what is wrong with a version beside a changelog, or nil.
func versionFits(changelog, version string) error {
	sections := strings.Split("\n"+changelog, "\n## ")[1:]
	if len(sections) == 0 || !strings.HasPrefix(sections[0], "[Unreleased]") {
		return errors.New("the first heading must be [Unreleased]")
	}
	latest := "0.0.0"
	if len(sections) > 1 {
		latest, _, _ = strings.Cut(strings.TrimPrefix(sections[1], "["), "]")
	}
	if !strings.Contains(sections[0], "\n* ") {
		if version != latest {
			return fmt.Errorf("nothing is unreleased: Version is %s, must be that of the latest release, %s", version, latest)
		}
		return nil
	}
	next, isDev := strings.CutSuffix(version, "-dev")
	if !isDev {
		return fmt.Errorf("there are unreleased changes: Version is %s, must end in -dev", version)
	}
	if slices.Compare(numbers(next), numbers(latest)) <= 0 {
		return fmt.Errorf("Version is %s, must be later than the latest release, %s", version, latest)
	}
	return nil
}

func numbers(version string) (all []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part)
		all = append(all, n)
	}
	return all
}
