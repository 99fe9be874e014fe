package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
)

// A process that is killed before it has saved a position leaves the id of its batches.
func TestAPositionIsSavedBeforeTheFirstBatch(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(100)
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		wait := s.start("send", "orders", "--file", file)
		require.NoError(t, slow.Wait(t.Context(), 1))
		require.Len(t, s.savedSends(), 1)
		code, _ := wait()
		require.Zero(t, code)
		saved, err := os.ReadDir(filepath.Join(s.home, ".local", "state", "sequin", "sends"))
		require.NoError(t, err)
		require.Empty(t, saved, "a file that is sent leaves nothing")
	})
}

func TestAFileOfTheSameNameInAnotherDirectoryIsAnotherFile(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.inputFile(3000)
		t.Chdir(s.home)
		s.stopSend("in.ndjson", sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 1}, 1)
		other := t.TempDir()
		require.NoError(t, os.CopyFS(other, os.DirFS(s.home)))
		t.Chdir(other)
		require.Zero(t, s.exec("send", "orders", "--file", "in.ndjson"))
		require.Empty(t, s.errors)
	})
}

func TestBatchesWithTheSameLinesAreAllStored(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.in = strings.Repeat(`{"key":"k","data":1}`+"\n", 3000)
		require.Zero(t, s.exec("send", "orders", "--file", "-"))
		require.Len(t, s.stored(), 3000)
	})
}

// The lines behind the position may change before the next run. Their batch then is another one, although a batch at that place may
// be stored already.
func TestALineThatChangesBehindThePositionIsSent(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(3000)
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, DelayAfter: time.Hour, Skip: 1}, 2)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), `{"n":1500}`, `"changed"`, 1)), 0o600))
		require.Zero(t, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, "going on after line 1000")
		require.Contains(t, s.stored(), "changed")
	})
}

func TestARunThatGoesOnAddsToTheRefusedLines(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file, list := s.inputFile(3000), filepath.Join(s.home, "refused")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		lines := strings.SplitAfter(string(text), "\n")
		lines[3], lines[2500] = "{}\n", "[]\n"
		require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600))
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 1}, 1, "--refused", list)
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file, "--refused", list))
		refused := func() string {
			text, err := os.ReadFile(list)
			require.NoError(t, err)
			return string(text)
		}
		require.Regexp(t, `(?s)^\{"line":4,.*\n\{"line":2501,.*\n$`, refused())
		info, err := os.Stat(list)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm(), "the lines may be secret")
	})
}

// The first request is cut off after the list of the second batch is written, as a kill does it.
func TestLinesAreListedOnceAfterAKill(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file, list := s.inputFile(2000), filepath.Join(s.home, "refused")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append([]byte("[]\n"), text...), 0o600))
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 1}, 2, "--refused", list)
		before, err := os.ReadFile(list)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(before), "\n"))
		require.NoError(t, os.WriteFile(list, append(before, "the line of a batch that is not in the position\n"...), 0o600))
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file, "--refused", list))
		require.Contains(t, s.errors, "going on after line 1000")
		after, err := os.ReadFile(list)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	})
}

func TestTheListOfRefusedLinesOverwritesNothing(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file, precious := s.inputFile(2), filepath.Join(s.home, "precious")
		require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
		require.NoError(t, os.Symlink(file, filepath.Join(s.home, "link")))
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, list := range []string{file, filepath.Join(s.home, "link")} {
			require.Equal(t, cli.ExitUsage, s.exec("send", "orders", "--file", file, "--refused", list))
			require.Equal(t, "sequin: --refused must be another file than --file\n", s.errors)
		}
		for _, restart := range []string{"--restart=false", "--restart"} {
			require.Equal(t, cli.ExitUsage, s.exec("send", "orders", "--file", file, "--refused", precious, restart))
			require.Equal(t, "sequin: --refused "+precious+" has something in it already: remove it, or give another file\n", s.errors)
		}
		require.Empty(t, s.stored())
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, before, after)
		after, err = os.ReadFile(precious)
		require.NoError(t, err)
		require.Equal(t, "precious", string(after))
		require.Zero(t, s.exec("send", "orders", "--file", file, "--refused", os.DevNull), s.errors)
		s.in = "{}"
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", "-", "--refused", os.DevNull), s.errors)
	})
}

// A shell opens the input of --file - itself.
func TestTheListOfRefusedLinesIsNotTheStandardInput(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(2)
		opened, err := os.Open(file)
		require.NoError(t, err)
		defer opened.Close()
		s.stdin = opened
		require.Equal(t, cli.ExitUsage, s.exec("send", "orders", "--file", "-", "--refused", file))
		require.Equal(t, "sequin: --refused must be another file than --file\n", s.errors)
	})
}

func TestManyRefusedLinesAreListedInPart(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.in = `{"key":"k","data":1}` + strings.Repeat("\n{}", 30)
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", "-"))
		require.Equal(t, 21, strings.Count(s.errors, "\n"), "20 lines, and the error")
		require.Contains(t, s.errors, "30 lines could not be sent, of which the first 20 are listed above: list all with --refused")
	})
}

// pipe makes a pipe the standard input of all commands. Its writer stays open until the test ends.
func (s *shell) pipe() *io.PipeWriter {
	in, out := io.Pipe()
	s.t.Cleanup(func() { _ = out.Close() })
	s.stdin = in
	return out
}

func TestCtrlCEndsASendOfAPipe(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		in := s.pipe()
		wait := s.start("send", "orders", "--file", "-")
		_, err := io.WriteString(in, `{"key":"k","data":1}`+"\n"+`{"key":"k","data":2}`+"\n")
		require.NoError(t, err)
		began := time.Now()
		s.interrupt()
		code, text := wait()
		require.Zero(t, time.Since(began))
		require.Equal(t, cli.ExitFailed, code)
		require.Equal(t, "sent 2 messages of 2 lines\nsequin: stopped after line 2 of the standard input\n", text)
		require.Len(t, s.stored(), 2)
	})
}

// The first ctrl-C waits for the answer, and the second does not.
func TestASecondCtrlCGivesAPipeUp(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		in := s.pipe()
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Hour})
		wait := s.start("send", "orders", "--file", "-")
		_, err := io.WriteString(in, `{"key":"k","data":1}`+"\n")
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, slow.Wait(t.Context(), 1))
		require.Equal(t, 100*time.Millisecond, time.Since(began), "the line is not held")
		s.interrupt()
		s.interrupt()
		code, text := wait()
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, text, "stopped after line 0 of the standard input")
	})
}

// Data that is not whole is not sent.
func TestCtrlCEndsASendOfDataFromAPipe(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		in := s.pipe()
		wait := s.start("send", "orders", "key", "-")
		_, err := io.WriteString(in, "half")
		require.NoError(t, err)
		s.interrupt()
		code, text := wait()
		require.Equal(t, cli.ExitFailed, code)
		require.Equal(t, "sequin: stopped by a signal\n", text)
		require.Empty(t, s.stored())
	})
}

// Each run gives up after a thousand lines. The last one comes to the end, where nothing is left to go on with.
func TestARunThatRefusesTheLastLineIsDone(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := filepath.Join(s.home, "in.ndjson")
		require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("{}\n", 3000)), 0o600))
		runs := 1
		for ; s.exec("send", "orders", "--file", file) == cli.ExitFailed && strings.Contains(s.errors, "the same command goes on there"); runs++ {
			require.LessOrEqual(t, runs, 3)
			require.NotContains(t, s.errors, "stopped after line 3000")
		}
		require.Contains(t, s.errors, "3000 lines could not be sent")
		require.Empty(t, s.savedSends())
	})
}
