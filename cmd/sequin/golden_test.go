package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/sequintest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// shell runs commands in virtual time, against a server in memory, and keeps what a user would see.
type shell struct {
	t          *testing.T
	srv        *sequintest.Server
	home       string
	env        map[string]string
	in         string    // the standard input of the next command
	stdin      io.Reader // that of all commands, in place of in; nil for none
	terminal   bool
	signals    chan os.Signal
	transcript strings.Builder
	out        string // of the latest command
	errors     string
}

// inShell runs test in a bubble with a server. The clock begins at 2000-01-01.
func inShell(t *testing.T, cfg sequintest.Config, test func(*testing.T, *shell)) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, cfg)
		test(t, &shell{t: t, srv: srv, home: home, env: map[string]string{"HOME": home, "SEQUIN_URL": srv.URL}, signals: make(chan os.Signal, 2)})
	})
}

// inOrders is inShell with a stream orders, which has a consumer billing.
func inOrders(t *testing.T, test func(*testing.T, *shell)) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("stream", "add", "orders"))
		require.Zero(t, s.exec("consumer", "add", "orders", "billing"))
		test(t, s)
	})
}

// world returns the process of the next command.
func (s *shell) world(out, errors *clitest.Buffer) world {
	client := s.srv.Client()
	var in io.Reader = strings.NewReader(s.in)
	if s.stdin != nil {
		in = s.stdin
	}
	s.in = ""
	return world{
		in: in, out: out, errors: errors, signals: s.signals, now: time.Now, terminal: s.terminal, transport: client.Transport,
		lookup: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok },
	}
}

// exec runs a command and returns its exit code.
func (s *shell) exec(args ...string) int {
	s.t.Helper()
	var out, errors clitest.Buffer
	code := run(args, s.world(&out, &errors))
	s.out, s.errors = out.String(), errors.String()
	return code
}

// start starts a command that goes on. The function waits until it ends, and returns its exit code and what it printed.
func (s *shell) start(args ...string) (wait func() (code int, text string)) {
	var out, errors clitest.Buffer
	ended := make(chan int, 1)
	w := s.world(&out, &errors)
	go func() { ended <- run(args, w) }()
	return func() (int, string) { return <-ended, out.String() + errors.String() }
}

// interrupt presses ctrl-C when everything waits.
func (s *shell) interrupt() {
	synctest.Wait()
	s.signals <- os.Interrupt
}

// run runs a line without quotes and adds it to the transcript with what it printed and its exit code, unless that is 0.
func (s *shell) run(line string) {
	s.t.Helper()
	s.runArgs(strings.Fields(line)...)
}

func (s *shell) runArgs(args ...string) {
	s.t.Helper()
	code := s.exec(args...)
	for i, a := range args {
		if strings.ContainsAny(a, ` "{`) {
			args[i] = "'" + a + "'"
		}
	}
	s.transcript.WriteString("$ sequin " + strings.Join(args, " ") + "\n" + s.out + s.errors)
	if code != 0 {
		s.transcript.WriteString("exit code " + string(rune('0'+code)) + "\n")
	}
	s.transcript.WriteString("\n")
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// golden compares the transcript with a file. What differs from run to run is replaced.
func (s *shell) golden(name string) {
	s.t.Helper()
	got := strings.ReplaceAll(s.transcript.String(), s.home, "HOME")
	compare(s.t, name, uuids.ReplaceAllString(got, "00000000-0000-0000-0000-000000000000"))
}

// compare compares a text with a golden file.
func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
