package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestTheConsoleIsServedUnlessItIsSwitchedOff(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory")
	require.Contains(t, p.ok("GET", "/console/", ""), "No streams yet")
	status, _ := p.do("GET", "/console/", "", "Host", "example.com")
	require.Equal(t, http.StatusForbidden, status)
	p = start(t, clitest.Environment(), "--memory", "--no-console")
	require.NotContains(t, p.usage, "console")
	status, _ = p.do("GET", "/console/", "")
	require.Equal(t, http.StatusNotFound, status)
}

// A token of the environment and the tokens of a file open the API and the console alike.
func TestTheConsoleAsksForAToken(t *testing.T) {
	for _, arguments := range [][]string{{"--token-file", clitest.File(t, "me admin,read s3cret\n")}, {}} {
		p := start(t, clitest.Environment("SEQUIN_TOKEN", "s3cret"), append([]string{"--memory"}, arguments...)...)
		p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		status, _ := p.do("GET", "/console/", "")
		require.Equal(t, http.StatusSeeOther, status)
		require.Contains(t, p.ok("GET", "/console/login", ""), `type="password"`)
		for token, want := range map[string]int{"s3cret": http.StatusOK, "s3cre": http.StatusUnauthorized} {
			status, _ = p.do("GET", "/api/streams", "", "Authorization", "Bearer "+token)
			require.Equal(t, want, status)
		}
	}
}

// A page that is open, with its events, does not keep the server from stopping.
func TestAnOpenPageEndsWithTheServer(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory")
	r, err := http.NewRequest(http.MethodGet, p.url+"/console/", nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := p.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitOK, p.wait())
	require.False(t, strings.Contains(p.errors.String(), "cut off"), p.errors.String())
}
