package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestContexts(t *testing.T) {
	inShell(t, sequintest.Config{Token: "secret"}, func(t *testing.T, s *shell) {
		delete(s.env, "SEQUIN_URL")
		token := filepath.Join(s.home, "token")
		require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
		s.run("context ls")
		s.run("context add here --url " + s.srv.URL + " --token-file " + token)
		s.run("context add other --url https://sequin.invalid")
		s.run("context ls")
		s.run("context ls --json")
		s.run("doctor")
		s.run("doctor --json")
		s.run("context use other")
		s.run("context ls")
		s.run("doctor --context here --json")
		s.run("context rm other")
		s.run("context rm other")
		s.run("context use other")
		s.run("context")
		s.run("context add bad --url localhost:7376")
		s.run("context add bad --url http://user:secret@localhost:7376")
		s.run("context add bad --url http://localhost --token-file nowhere")
		s.run("context add third --url http://third --json")
		s.run("context use third --json")
		s.run("context rm third --json")
		s.golden("context")
		require.NotContains(t, s.transcript.String(), " secret")
	})
}

func TestOnlyTheUserMayUseTheContexts(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		for _, name := range []string{"", "bad name", "..", "-x", "a/b", "a\nb", strings.Repeat("x", 64)} {
			require.Equal(t, cli.ExitUsage, s.exec("context", "add", "--url", s.srv.URL, "--", name), name)
			require.Contains(t, s.errors, "of a context: use up to 63 letters")
		}
		require.Zero(t, s.exec("context", "add", "here", "--url", s.srv.URL))
		path := filepath.Join(s.home, ".config", "sequin", "contexts.json")
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
		require.NoError(t, os.Chmod(path, 0o644))
		delete(s.env, "SEQUIN_URL")
		require.Equal(t, cli.ExitFailed, s.exec("doctor"))
		require.Contains(t, s.errors, "chmod 600 "+path)
		require.NoError(t, os.Chmod(path, 0o600))
		require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
		require.Equal(t, cli.ExitFailed, s.exec("context", "ls"))
		require.Contains(t, s.errors, "is damaged")
	})
}

// The token of the environment belongs to the server of the environment. It must not reach the server of a context.
func TestTheTokenOfTheEnvironmentIsNotSentToAContext(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.env["SEQUIN_TOKEN"] = "secret"
		require.Zero(t, s.exec("context", "add", "here", "--url", s.srv.URL))
		authorization := func() string { return s.srv.Requests()[s.srv.Count(sequintest.Any)-1].Header.Get("Authorization") }
		require.Zero(t, s.exec("doctor"))
		require.Equal(t, "Bearer secret", authorization())
		require.Zero(t, s.exec("doctor", "--context", "here"), "a flag wins over a variable")
		require.Empty(t, authorization())
		require.Contains(t, s.out, "token       none")
		delete(s.env, "SEQUIN_URL")
		require.Zero(t, s.exec("doctor"))
		require.Empty(t, authorization())
		require.Zero(t, s.exec("doctor", "--url", s.srv.URL))
		require.Equal(t, "Bearer secret", authorization())
		file := filepath.Join(s.home, "token")
		require.NoError(t, os.WriteFile(file, []byte("other"), 0o600))
		require.Zero(t, s.exec("doctor", "--token-file", file))
		require.Equal(t, "Bearer other", authorization())
	})
}

func TestDoctorSaysWhatIsWrong(t *testing.T) {
	inShell(t, sequintest.Config{Token: "secret", Compat: server.Aug2024}, func(t *testing.T, s *shell) {
		s.run("doctor")
		s.env["SEQUIN_TOKEN"] = "wrong"
		s.run("doctor")
		s.env["SEQUIN_TOKEN"] = "two words"
		s.run("doctor")
		s.env["SEQUIN_TOKEN"] = "secret"
		s.run("doctor")
		s.run("doctor --url nonsense")
		s.run("doctor --url " + s.srv.URL + " --context c")
		s.run("doctor --context c")
		s.srv.Down()
		s.run("doctor")
		s.golden("doctor")
	})
}

func TestDoctorNoticesAClockThatIsOff(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.srv.Fault(sequintest.Fault{Status: 200, Body: `{"data":[]}`, Header: map[string][]string{"Date": {"Sat, 01 Jan 2000 00:01:00 GMT"}}})
		require.Zero(t, s.exec("doctor"))
		require.Contains(t, s.out, "1m0s ahead of this machine's")
		time.Sleep(3 * time.Minute)
		require.Zero(t, s.exec("doctor"))
		require.Contains(t, s.out, "1m59s behind this machine's")
	})
}
