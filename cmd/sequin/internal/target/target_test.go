package target

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/sequintest"
)

// find returns the server of a command line. The variables come with their values one after the other.
func find(t *testing.T, line string, variables ...string) (Target, error) {
	t.Helper()
	var flags Flags
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.Register(set)
	require.NoError(t, set.Parse(strings.Fields(line)))
	return flags.Find(clitest.Environment(variables...))
}

// twoContexts saves the contexts a, which is current and has the token "of a", and b, which has none. It returns the home.
func twoContexts(t *testing.T) (home, tokenFile string) {
	t.Helper()
	home, tokenFile = t.TempDir(), clitest.File(t, "of-a\n")
	all, err := Load(clitest.Environment("HOME", home))
	require.NoError(t, err)
	all.Contexts["a"], all.Contexts["b"] = Context{"http://a", tokenFile}, Context{"http://b", ""}
	all.Current = "a"
	require.NoError(t, all.Save())
	return home, tokenFile
}

func TestTheServerIsChosen(t *testing.T) {
	home, _ := twoContexts(t)
	other := clitest.File(t, "of-file")
	for _, tt := range []struct {
		line      string
		variables []string
		want      string // the URL, what named it, and the token
	}{
		{"", nil, `http://a, context "a": of-a`},
		{"--context b", nil, `http://b, context "b": `},
		{"", []string{"SEQUIN_CONTEXT", "b"}, `http://b, context "b": `},
		{"--context a", []string{"SEQUIN_CONTEXT", "b"}, `http://a, context "a": of-a`},
		{"", []string{"SEQUIN_URL", "http://e"}, `http://e, $SEQUIN_URL: `},
		{"--url http://u", []string{"SEQUIN_URL", "http://e"}, `http://u, --url: `},
		{"--url http://u", []string{"SEQUIN_CONTEXT", "b"}, `http://u, --url: `},
		{"--context b", []string{"SEQUIN_URL", "http://e"}, `http://b, context "b": `},
		// The token of the environment is for the server of the environment or of the command line.
		{"", []string{"SEQUIN_TOKEN", "secret"}, `http://a, context "a": of-a`},
		{"--context b", []string{"SEQUIN_TOKEN", "secret"}, `http://b, context "b": `},
		{"--url http://u", []string{"SEQUIN_TOKEN", "secret"}, `http://u, --url: secret`},
		{"", []string{"SEQUIN_TOKEN", "secret", "SEQUIN_URL", "http://e"}, `http://e, $SEQUIN_URL: secret`},
		{"--token-file " + other, []string{"SEQUIN_TOKEN", "secret"}, `http://a, context "a": of-file`},
		{"--url http://u", []string{"SEQUIN_TOKEN", "secret", "SEQUIN_TOKEN_FILE", other}, `http://u, --url: of-file`},
		{"", []string{"HOME", t.TempDir(), "SEQUIN_TOKEN", "secret"}, sequin.DefaultBaseURL + `, the default: secret`},
		{"", []string{"HOME", ""}, sequin.DefaultBaseURL + `, the default: `},
	} {
		got, err := find(t, tt.line, append([]string{"HOME", home}, tt.variables...)...)
		require.NoError(t, err)
		token, err := got.Token()
		require.NoError(t, err)
		require.Equal(t, tt.want, got.URL+", "+got.From+": "+token, "%s %v", tt.line, tt.variables)
		require.Equal(t, token != "", got.TokenFrom != "")
	}
	for line, code := range map[string]int{"--context c": cli.ExitNotFound, "--context a --url http://u": cli.ExitUsage} {
		_, err := find(t, line, "HOME", home)
		require.Equal(t, code, cli.ExitCode(err), line)
	}
	_, err := find(t, "--context a")
	require.Equal(t, cli.ExitUsage, cli.ExitCode(err), "without a home there are no contexts")
}

func TestTheContextsHaveNoToken(t *testing.T) {
	home, tokenFile := twoContexts(t)
	path := filepath.Join(home, ".config", "sequin", "contexts.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), tokenFile)
	require.NotContains(t, string(text), "of-a")
	all, err := Load(clitest.Environment("XDG_CONFIG_HOME", filepath.Join(home, ".config")))
	require.NoError(t, err)
	require.Equal(t, "a", all.Current)
	require.Equal(t, map[string]Context{"a": {"http://a", tokenFile}, "b": {"http://b", ""}}, all.Contexts)
}

func TestContextsThatCannotBeTrustedAreRefused(t *testing.T) {
	home, _ := twoContexts(t)
	path := filepath.Join(home, ".config", "sequin", "contexts.json")
	if runtime.GOOS != "windows" { // it has no such modes
		for _, mode := range []os.FileMode{0o644, 0o620, 0o602} {
			require.NoError(t, os.Chmod(path, mode))
			_, err := find(t, "", "HOME", home)
			require.ErrorContains(t, err, `run "chmod 600 `+path+`"`)
		}
		require.NoError(t, os.Chmod(path, 0o600))
	}
	require.NoError(t, os.WriteFile(path, []byte(`{"contexts":`), 0o600))
	_, err := find(t, "", "HOME", home)
	require.ErrorContains(t, err, path+" is damaged")
	require.NoError(t, os.WriteFile(path, []byte(`{"contexts":null}`), 0o600))
	all, err := Load(clitest.Environment("HOME", home))
	require.NoError(t, err)
	all.Contexts["c"] = Context{} // the map is there
}

func TestAContextIsChecked(t *testing.T) {
	require.NoError(t, Context{"http://a", clitest.File(t, "token")}.Check())
	for text, c := range map[string]Context{
		"must begin with http": {"a:1", ""}, "has no host": {"http://", ""}, "may have only": {"http://user:s3cret@a", ""},
		"cannot read the token file": {"http://a", "nowhere"}, "there is no token": {"http://a", clitest.File(t, "")},
	} {
		err := c.Check()
		require.ErrorContains(t, err, text)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestATokenFileIsReadAgainWhenTheServerRefusesItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{Token: "new"})
		file := clitest.File(t, "old")
		target, err := find(t, "--url "+srv.URL+" --token-file "+file)
		require.NoError(t, err)
		client, err := target.Client(srv.Client().Transport)
		require.NoError(t, err)
		_, err = client.ListStreams(t.Context())
		require.ErrorIs(t, err, sequin.ErrUnauthorized)
		require.NoError(t, os.WriteFile(file, []byte("new"), 0o600))
		_, err = client.ListStreams(t.Context())
		require.NoError(t, err)
		require.Equal(t, "sequin-cli/"+sequin.Version, srv.Requests()[0].Header.Get("User-Agent"))

		require.NoError(t, os.WriteFile(file, nil, 0o600))
		requests := srv.Count(sequintest.Any)
		_, err = target.Client(nil)
		require.ErrorContains(t, err, "there is no token")
		require.Equal(t, requests, srv.Count(sequintest.Any))
	})
}

func TestARefusedTokenIsExplained(t *testing.T) {
	refused, forbidden := &sequin.APIError{Status: 401}, &sequin.APIError{Status: 403}
	for _, row := range []struct {
		target Target
		err    error
		says   string
	}{
		{Target{TokenFrom: "/t"}, refused, "the token comes from /t"},
		{Target{TokenFrom: "/t"}, forbidden, "the token comes from /t"},
		{Target{}, refused, "no token was given: give one with --token-file or $SEQUIN_TOKEN"},
		{Target{From: `context "c"`, context: true}, refused, `no token was given, and context "c" has none: give one with --token-file, or add it`},
	} {
		err := row.target.Explain(row.err)
		require.ErrorContains(t, err, row.says)
		require.ErrorIs(t, err, sequin.ErrUnauthorized)
	}
	require.Equal(t, error(forbidden), Target{}.Explain(forbidden), "it is not about a token")
	require.NoError(t, Target{}.Explain(nil))
	require.Equal(t, sequin.ErrClosed, Target{TokenFrom: "/t"}.Explain(sequin.ErrClosed))
}
