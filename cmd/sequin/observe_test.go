package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// withOrders starts a server with a stream orders, which has a consumer billing and five messages, two of them on lease.
func withOrders(t *testing.T, args ...string) *process {
	p := start(t, clitest.Environment(), append([]string{"--memory"}, args...)...)
	p.ok("POST", "/api/streams", `{"name":"orders"}`)
	p.ok("POST", "/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">"}`)
	for i := range 5 {
		p.ok("POST", "/api/streams/orders/messages", fmt.Sprintf(`{"messages":[{"key":"eu.%d","data":"{\"qty\":%d}"}]}`, i, i))
	}
	p.ok("POST", "/api/streams/orders/consumers/billing/receive", `{"batch_size":2}`)
	return p
}

// tmux runs a program in a terminal of 80 columns and 24 lines.
type tmux struct {
	*testing.T
	path, socket string
}

func newTmux(t *testing.T, env []string, command ...string) *tmux {
	t.Helper()
	path, err := exec.LookPath("tmux")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("tmux is not installed")
	}
	require.NoError(t, err)
	x := &tmux{t, path, filepath.Join(t.TempDir(), "tmux")}
	args := []string{"-f", os.DevNull, "new-session", "-d", "-x", "80", "-y", "24"}
	for _, v := range env {
		args = append(args, "-e", v)
	}
	x.do(append(args, command...)...)
	t.Cleanup(func() { _ = x.command("kill-server").Run() })
	return x
}

func (x *tmux) command(args ...string) *exec.Cmd {
	cmd := exec.Command(x.path, append([]string{"-u", "-S", x.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMUX=")
	return cmd
}

func (x *tmux) do(args ...string) string {
	x.Helper()
	out, err := x.command(args...).CombinedOutput()
	require.NoErrorf(x, err, "tmux %v: %s", args, out)
	return string(out)
}

// see waits until the terminal shows all texts.
func (x *tmux) see(all ...string) {
	x.Helper()
	screen := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		screen = x.do("capture-pane", "-p")
		missing := false
		for _, text := range all {
			missing = missing || !strings.Contains(screen, text)
		}
		if !missing {
			return
		}
	}
	require.FailNowf(x, "not shown", "%q in:\n%s", all, screen)
}

// coloured finds a sequence that sets a colour other than the default ones, which are 39 and 49.
var coloured = regexp.MustCompile(`\x1b\[([0-9;]*;)?(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]`)

// hasColours reports whether something that the terminal shows has a colour.
func (x *tmux) hasColours() bool { return coloured.MatchString(x.do("capture-pane", "-p", "-e")) }

func (x *tmux) press(keys ...string) { x.Helper(); x.do(append([]string{"send-keys"}, keys...)...) }

// TestObserveInATerminal has a terminal without colours, and then one with them.
func TestObserveInATerminal(t *testing.T) {
	p := withOrders(t)
	path, err := binary()
	require.NoError(t, err)
	x := newTmux(t, []string{"NO_COLOR=1", "TERM=xterm-256color"}, path, "observe", "--url", p.url, "--every", "500ms")
	x.see("> orders", "5 messages", "OUT/S", "? help")
	require.False(t, x.hasColours())
	p.ok("POST", "/api/streams/orders/messages", `{"messages":[{"key":"evil","data":"\u001b]0;x\u0007\u202e"}]}`)
	x.see("6 messages")
	x.press("Enter")
	x.see("> billing", "BACKLOG", "OLDEST", "LEASED")
	x.press("Enter")
	x.see("eu.0", "delivered", "with a program, whose lease ends in", "available")
	x.press("x")
	x.see("Nack eu.0, seq 1?", "y yes")
	x.press("y")
	x.see("nacked eu.0")
	x.press("End", "Enter")
	x.see(`\x1b]0;x\x07\u202e`)
	x.press("Escape") // alone: with another key at once it would be Alt and that key
	x.see("eu.4")
	x.press("?")
	x.see("remove the filter, or go back")
	x.press("x")
	x.see("eu.4")
	x.press("q")
	for deadline := time.Now().Add(patience); x.command("has-session").Run() == nil; time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "it does not quit")
	}

	x = newTmux(t, []string{"TERM=xterm-256color"}, path, "observe", "--url", p.url)
	x.see("orders")
	require.True(t, x.hasColours())
	x.press("C-c")
}

func TestObserveNeedsATerminal(t *testing.T) {
	code, _, errors := runNow(clitest.Environment(), "observe")
	require.Equal(t, 2, code)
	require.Contains(t, errors, "observe needs a terminal")
	code, _, errors = runNow(clitest.Environment(), "observe", "--every", "10ms")
	require.Equal(t, 2, code)
	require.Contains(t, errors, "at least 500ms")
}
